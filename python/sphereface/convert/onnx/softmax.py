"""Softmax as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.softmax import Softmax

__all__ = ["softmax"]


@onnx_layer("Softmax")
def softmax(graph: OnnxGraph, layer: Softmax, x: Value) -> str:
    """Write Softmax."""
    return graph.node("Softmax", x, axis=layer.axis % len(x.shape))
