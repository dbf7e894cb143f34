"""Normalize as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.normalize import Normalize

__all__ = ["normalize"]


@onnx_layer("Normalize")
def normalize(graph: OnnxGraph, layer: Normalize, x: Value) -> str | list[str]:
    """Write Div by the norm over the channels, or over all of an image, and Mul by the weight."""
    axes = graph.integers(range(1, len(x.shape)) if layer.across_spatial else [1])
    if layer.normalize_type == "L2":
        squares = graph.node("ReduceSum", graph.node("Mul", x, x), axes)
        norm = graph.node("Sqrt", graph.node("Add", squares, graph.constant(layer.eps)))
    else:
        total = graph.node("ReduceSum", graph.node("Abs", x), axes)
        norm = graph.node("Add", total, graph.constant(layer.eps))
    y = graph.node("Div", x, norm)
    if layer.weight is not None:
        weight = layer.weight.reshape(-1, *[1] * (len(x.shape) - 2))
        y = graph.node("Mul", y, graph.constant(weight, "weight"))
    return y if layer.top_count == 1 else [y, norm]
