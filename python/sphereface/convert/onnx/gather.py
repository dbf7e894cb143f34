"""Gather as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.gather import Gather

__all__ = ["gather"]


@onnx_layer("Gather")
def gather(graph: OnnxGraph, layer: Gather, *bottoms: Value) -> list[str]:
    """Write nothing: every top is its bottom."""
    return [bottom.name for bottom in bottoms]
