"""Dropout as ONNX nodes: none, because in TEST the top is the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer

__all__ = ["dropout"]


@onnx_layer("Dropout")
def dropout(graph: OnnxGraph, layer: Layer, x: Value) -> str:
    """Pass the bottom on."""
    return x.name
