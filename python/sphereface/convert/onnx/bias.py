"""Bias as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sphereface.caffe.layers.bias import spread
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.bias import Bias

__all__ = ["bias", "spread_blob", "spread_bottom"]


@onnx_layer("Bias")
def bias(graph: OnnxGraph, layer: Bias, x: Value, *terms: Value) -> str:
    """Write Add."""
    if terms:
        return graph.node("Add", x, spread_bottom(graph, layer, terms[0], x))
    return graph.node("Add", x, graph.constant(spread_blob(layer, layer.bias, x), "bias"))


def spread_blob(layer: Bias, small: Tensor, x: Value) -> Tensor:
    """Return the blob with axes of size 1 appended, so that it broadcasts over `x`."""
    return spread(small, small.new_empty((1,) * len(x.shape)), layer.axis)


def spread_bottom(graph: OnnxGraph, layer: Bias, small: Value, x: Value) -> str:
    """Return the name of the bottom `small` with axes of size 1 appended."""
    like = spread_blob(layer, Tensor().new_empty((1,) * len(small.shape)), x)
    behind = like.dim() - len(small.shape)
    if not behind:
        return small.name
    return graph.node("Reshape", small, graph.integers([0] * len(small.shape) + [1] * behind))
