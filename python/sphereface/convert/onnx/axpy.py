"""Axpy as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.axpy import Axpy

__all__ = ["axpy"]


@onnx_layer("Axpy")
def axpy(graph: OnnxGraph, layer: Axpy, a: Value, x: Value, y: Value) -> str:
    """Write Mul, the factors reshaped to the axes of x, and Add."""
    factor = a.name
    if len(a.shape) != len(x.shape):
        factor = graph.node("Reshape", a, graph.integers([0, 0, *[1] * (len(x.shape) - 2)]))
    return graph.node("Add", graph.node("Mul", factor, x), y)
