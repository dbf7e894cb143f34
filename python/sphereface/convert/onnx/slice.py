"""Slice as ONNX nodes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.slice import Slice

__all__ = ["slice_"]

_END = 2**31 - 1
"""Beyond every axis: the runtimes cut it to the size."""


@onnx_layer("Slice")
def slice_(graph: OnnxGraph, layer: Slice, x: Value) -> str | list[str]:
    """Write Split into even parts, or a Slice for each piece; the size of the axis is free."""
    if layer.top_count == 1:
        return x.name
    axis = layer.axis % len(x.shape)
    if not layer.points:
        return list(graph.split_node("Split", x, outputs=layer.top_count, axis=axis))
    axes = graph.integers([axis])
    return [
        graph.node("Slice", x, graph.integers([start]), graph.integers([end]), axes)
        for start, end in pairwise((0, *layer.points, _END))
    ]
