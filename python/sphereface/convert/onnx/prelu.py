"""PReLU as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.prelu import PReLU

__all__ = ["prelu"]


@onnx_layer("PReLU")
def prelu(graph: OnnxGraph, layer: PReLU, x: Value) -> str:
    """Write PRelu, the slopes with axes of size 1 for those behind the channels."""
    slopes = layer.weight if layer.shared else layer.weight.reshape(-1, *[1] * (len(x.shape) - 2))
    return graph.node("PRelu", x, graph.constant(slopes.reshape(slopes.shape or (1,)), "weight"))
