"""NormL2 as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.norm_l2 import EPSILON
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.norm_l2 import NormL2

__all__ = ["norm_l2"]


@onnx_layer("NormL2")
def norm_l2(graph: OnnxGraph, layer: NormL2, x: Value) -> str:
    """Write Div by the root of the sum of squares of a sample."""
    axes = graph.integers(range(1, len(x.shape)))
    squares = graph.node("ReduceSum", graph.node("Mul", x, x), axes)
    return graph.node(
        "Div", x, graph.node("Sqrt", graph.node("Add", squares, graph.constant(EPSILON)))
    )
