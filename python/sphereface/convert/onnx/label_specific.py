"""The label specific layers as ONNX nodes: none, because in TEST the top is the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer
    from sphereface.caffe.layers.label_specific import LabelSpecificAdd

__all__ = ["label_specific_add", "label_specific_rescale"]


@onnx_layer("LabelSpecificAdd")
def label_specific_add(graph: OnnxGraph, layer: LabelSpecificAdd, x: Value, label: Value) -> str:
    """Pass the bottom on."""
    if layer.transform_test or layer.top_count > 1:
        raise layer.error(
            "transform_test and a second top have no ONNX form", expected="a layer that passes on"
        )
    return x.name


@onnx_layer("LabelSpecificRescale")
def label_specific_rescale(graph: OnnxGraph, layer: Layer, x: Value, label: Value) -> str:
    """Pass the bottom on."""
    return x.name
