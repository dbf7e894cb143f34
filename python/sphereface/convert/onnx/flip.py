"""Flip as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.flip import Flip

__all__ = ["backwards", "flip"]


@onnx_layer("Flip")
def flip(graph: OnnxGraph, layer: Flip, x: Value) -> str:
    """Write Slice backwards along the width and the height, as far as they are mirrored."""
    return backwards(graph, x, layer.axes) if layer.axes else x.name


def backwards(graph: OnnxGraph, x: Value, axes: Sequence[int]) -> str:
    """Write Slice with step -1 along `axes`."""
    count = len(axes)
    steps = [graph.integers(values) for values in ([-1] * count, [-(2**31)] * count, axes)]
    return graph.node("Slice", x, *steps, graph.integers([-1] * count))
