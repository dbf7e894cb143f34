"""Normalize as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.normalize import EPSILON
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.normalize import Normalize

__all__ = ["normalize"]


@onnx_layer("Normalize")
def normalize(graph: OnnxGraph, layer: Normalize, x: Value) -> str | list[str]:
    """Write Div by the norm over the channels."""
    axis = graph.integers([1])
    if layer.normalize_type == "L2":
        squares = graph.node("ReduceSum", graph.node("Mul", x, x), axis)
        norm = graph.node("Sqrt", graph.node("Add", squares, graph.constant(EPSILON)))
    else:
        total = graph.node("ReduceSum", graph.node("Abs", x), axis)
        norm = graph.node("Add", total, graph.constant(EPSILON))
    y = graph.node("Div", x, norm)
    return y if layer.top_count == 1 else [y, norm]
