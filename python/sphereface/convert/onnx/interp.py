"""Interp as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.interp import interpolated_size
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.interp import Interp

__all__ = ["interp"]

_END = 2**31 - 1


@onnx_layer("Interp")
def interp(graph: OnnxGraph, layer: Interp, x: Value, *like: Value) -> str:
    """Write Resize, after a Slice of what is cropped."""
    near, far = layer.crop
    name = x.name
    if near or far:
        ends = graph.integers([-far or _END] * 2)
        name = graph.node("Slice", name, graph.integers([near] * 2), ends, graph.integers([2, 3]))
    if like:
        sizes = _last(graph, like[0].name)
    elif layer.sizes or None not in x.shape[2:]:
        known = layer.sizes or [
            interpolated_size(graph.fixed(size, layer) - near - far, layer.shrink, layer.zoom)
            for size in x.shape[2:]
        ]
        sizes = graph.integers(known)
    else:
        sizes = _sizes(graph, layer, name)
    first = graph.integers([0]), graph.integers([2])
    shape = graph.node(
        "Concat", graph.node("Slice", graph.node("Shape", name), *first), sizes, axis=0
    )
    mode = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return graph.node("Resize", name, "", "", shape, **mode)


def _sizes(graph: OnnxGraph, layer: Interp, name: str) -> str:
    size = _last(graph, name)
    one = graph.integers([1])
    less = graph.node("Div", graph.node("Sub", size, one), graph.integers([layer.shrink]))
    return graph.node("Add", graph.node("Mul", less, graph.integers([layer.zoom])), one)


def _last(graph: OnnxGraph, name: str) -> str:
    """Return height and width."""
    return graph.node("Slice", graph.node("Shape", name), graph.integers([2]), graph.integers([4]))
