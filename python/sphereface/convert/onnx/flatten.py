"""Flatten as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.flatten import Flatten

__all__ = ["flatten"]


@onnx_layer("Flatten")
def flatten(graph: OnnxGraph, layer: Flatten, x: Value) -> str:
    """Write Flatten, or Reshape to keep axes behind."""
    axes = len(x.shape)
    start, end = layer.axis % axes, layer.end_axis % axes
    if start == 1 and end == axes - 1:
        return graph.node("Flatten", x, axis=1)
    behind = [graph.fixed(size, layer) for size in x.shape[end + 1 :]]
    return graph.node("Reshape", x, graph.integers([0] * start + [-1] + behind))
