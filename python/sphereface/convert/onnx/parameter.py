"""Parameter as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.parameter import Parameter

__all__ = ["parameter"]


@onnx_layer("Parameter")
def parameter(graph: OnnxGraph, layer: Parameter) -> str:
    """Write the blob as a constant."""
    return graph.constant(layer.weight, "weight")
