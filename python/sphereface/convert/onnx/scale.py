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
        for node, limit in (("Max", layer.min_value), ("Min", layer.max_value)):
            if limit is not None:
                factor = graph.node(node, factor, graph.constant(limit))
    else:
        weight = layer.weight
        if layer.min_value is not None or layer.max_value is not None:
            weight = weight.clamp(layer.min_value, layer.max_value)
        factor = graph.constant(spread_blob(layer, weight, x), "weight")
    y = graph.node("Mul", x, factor)
    if layer.bias is None:
        return y
    return graph.node("Add", y, graph.constant(spread_blob(layer, layer.bias, x), "bias"))
