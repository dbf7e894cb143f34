"""Reduction as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.reduction import Reduction

__all__ = ["reduction"]


@onnx_layer("Reduction")
def reduction(graph: OnnxGraph, layer: Reduction, x: Value) -> str:
    """Write ReduceSum or ReduceMean over the axes from `axis` on."""
    axes = list(range(layer.axis % len(x.shape), len(x.shape)))
    name = x.name
    if layer.operation == "ASUM":
        name = graph.node("Abs", name)
    elif layer.operation == "SUMSQ":
        name = graph.node("Mul", name, name)
    if layer.operation == "MEAN":
        y = graph.node("ReduceMean", name, axes=axes, keepdims=0)
    else:
        y = graph.node("ReduceSum", name, graph.integers(axes), keepdims=0)
    return y if layer.coeff == 1 else graph.node("Mul", y, graph.constant(layer.coeff))
