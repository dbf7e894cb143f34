"""Silence as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer

__all__ = ["silence"]


@onnx_layer("Silence")
def silence(graph: OnnxGraph, layer: Layer, *bottoms: Value) -> list[str]:
    """Write nothing."""
    return []
