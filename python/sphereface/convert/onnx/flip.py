"""Flip as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer

__all__ = ["flip"]


@onnx_layer("Flip")
def flip(graph: OnnxGraph, layer: Layer, x: Value) -> str:
    """Write Slice backwards along the width."""
    last = len(x.shape) - 1
    steps = [graph.integers([value]) for value in (-1, -(2**31), last, -1)]
    return graph.node("Slice", x, *steps)
