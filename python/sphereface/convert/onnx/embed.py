"""Embed as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.embed import Embed

__all__ = ["embed"]


@onnx_layer("Embed")
def embed(graph: OnnxGraph, layer: Embed, x: Value) -> str:
    """Write Gather of rows, plus the bias."""
    index = graph.node("Cast", x, to=graph.onnx.TensorProto.INT64)
    rows = graph.node("Gather", graph.constant(layer.weight, "weight"), index, axis=0)
    return (
        rows if layer.bias is None else graph.node("Add", rows, graph.constant(layer.bias, "bias"))
    )
