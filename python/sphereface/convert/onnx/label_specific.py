"""The label specific layers as ONNX nodes: none, because in TEST the top is the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer

__all__ = ["label_specific"]


@onnx_layer("LabelSpecificAdd", "LabelSpecificRescale")
def label_specific(graph: OnnxGraph, layer: Layer, x: Value, label: Value) -> str:
    """Pass the bottom on."""
    return x.name
