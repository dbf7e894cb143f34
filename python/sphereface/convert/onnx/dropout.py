"""Dropout as ONNX nodes: none, unless TEST scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.dropout import Dropout

__all__ = ["dropout"]


@onnx_layer("Dropout")
def dropout(graph: OnnxGraph, layer: Dropout, x: Value) -> str:
    """Pass the bottom on, or write Mul."""
    if layer.sample_test:
        raise layer.error("dropout in TEST has no ONNX form", expected="no sample_weights_test")
    if layer.scale_train:
        return x.name
    return graph.node("Mul", x, graph.constant(1 - layer.dropout_ratio))
