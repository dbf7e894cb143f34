"""BatchReindex as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer

__all__ = ["batch_reindex"]


@onnx_layer("BatchReindex")
def batch_reindex(graph: OnnxGraph, layer: Layer, x: Value, indices: Value) -> str:
    """Write Gather along the batch."""
    index = graph.node("Cast", indices, to=graph.onnx.TensorProto.INT64)
    return graph.node("Gather", x, index, axis=0)
