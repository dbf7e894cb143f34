"""BN as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.batch_norm import normalized
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.bn import BN

__all__ = ["bn"]


@onnx_layer("BN")
def bn(graph: OnnxGraph, layer: BN, x: Value) -> str:
    """Write BatchNormalization; of SegNet's form Mul and Add, after the batch's statistics."""
    if layer.form == "plain":
        names = ("weight", "bias", "mean", "variance")
        blobs = [graph.constant(getattr(layer, name).flatten(), name) for name in names]
        return graph.node("BatchNormalization", x, *blobs, epsilon=layer.eps)
    if layer.top_count > 1:
        raise layer.error("tops of statistics have no ONNX form", expected="one top")
    y = normalized(graph, x, layer.eps) if layer.learn else x.name
    shape = (1, -1) + (1,) * (len(x.shape) - 2)
    scale, shift = layer.weight.reshape(shape), layer.bias.reshape(shape)
    scaled = graph.node("Mul", y, graph.constant(scale, "weight"))
    return graph.node("Add", scaled, graph.constant(shift, "bias"))
