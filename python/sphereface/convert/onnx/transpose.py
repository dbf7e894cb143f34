"""Transpose and Reverse as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.flip import backwards
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.transpose import Reverse, Transpose

__all__ = ["reverse", "transpose"]


@onnx_layer("Transpose")
def transpose(graph: OnnxGraph, layer: Transpose, x: Value) -> str:
    """Write Transpose."""
    return graph.node("Transpose", x, perm=layer.order)


@onnx_layer("Reverse")
def reverse(graph: OnnxGraph, layer: Reverse, x: Value) -> str:
    """Write Slice backwards along the axis."""
    return backwards(graph, x, [layer.axis])
