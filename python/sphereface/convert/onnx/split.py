"""Split as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer

__all__ = ["split"]


@onnx_layer("Split")
def split(graph: OnnxGraph, layer: Layer, x: Value) -> list[str]:
    """Write nothing: every top is the bottom."""
    return [x.name] * layer.top_count
