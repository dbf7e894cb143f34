"""BN as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.bn import BN

__all__ = ["bn"]


@onnx_layer("BN")
def bn(graph: OnnxGraph, layer: BN, x: Value) -> str:
    """Write BatchNormalization."""
    names = ("weight", "bias", "mean", "variance")
    blobs = [graph.constant(getattr(layer, name).flatten(), name) for name in names]
    return graph.node("BatchNormalization", x, *blobs, epsilon=layer.eps)
