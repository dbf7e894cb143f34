"""Scale as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.bias import spread_blob, spread_bottom
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.scale import Scale

__all__ = ["scale"]


@onnx_layer("Scale")
def scale(graph: OnnxGraph, layer: Scale, x: Value, *factors: Value) -> str:
    """Write Mul, then Add of the bias."""
    if factors:
        factor = spread_bottom(graph, layer, factors[0], x)
        if layer.min_value is not None:
            factor = graph.node("Max", factor, graph.constant(layer.min_value))
    else:
        weight = layer.weight
        if layer.min_value is not None:
            weight = weight.clamp(min=layer.min_value)
        factor = graph.constant(spread_blob(layer, weight, x), "weight")
    y = graph.node("Mul", x, factor)
    if layer.bias is None:
        return y
    return graph.node("Add", y, graph.constant(spread_blob(layer, layer.bias, x), "bias"))
