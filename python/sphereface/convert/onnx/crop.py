"""Crop as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.crop import Crop

__all__ = ["crop"]


@onnx_layer("Crop")
def crop(graph: OnnxGraph, layer: Crop, x: Value, sizes: Value) -> str:
    """Write Slice, up to the sizes of the second bottom."""
    offsets, axes = list(layer.offsets), list(range(layer.axis, len(x.shape)))
    wanted = sizes.shape[layer.axis : len(x.shape)]
    if None not in wanted:
        ends = graph.integers(
            [o + s for o, s in zip(offsets, wanted, strict=True) if s is not None]
        )
    else:
        shape = graph.node("Shape", sizes, start=layer.axis, end=len(x.shape))
        ends = graph.node("Add", shape, graph.integers(offsets))
    return graph.node("Slice", x, graph.integers(offsets), ends, graph.integers(axes))
