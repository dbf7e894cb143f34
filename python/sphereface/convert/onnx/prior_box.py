"""PriorBox as ONNX: a constant, or nodes where the sizes may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.prior_box import PriorBox

__all__ = ["prior_box"]


@onnx_layer("PriorBox")
def prior_box(graph: OnnxGraph, layer: PriorBox, feature: Value, image: Value) -> str:
    """Write the boxes of fixed sizes, or Range of the positions plus the boxes of one position."""
    sizes = [*feature.shape[2:], *([] if layer.image_size else image.shape[2:])]
    if None not in sizes:
        blank = torch.zeros(1)
        bottoms = [blank.expand([n or 1 for n in value.shape]) for value in (feature, image)]
        return graph.constant(layer.compute(*bottoms))
    half = torch.tensor(layer.sizes) / 2
    names = []
    for axis in (0, 1):  # y, x
        total = _size(graph, image, axis)
        if layer.image_size:
            total = graph.constant(layer.image_size[axis])
        if layer.step:
            step = graph.node("Div", graph.constant(layer.step[axis]), total)
        else:
            # Image size / map size, over image size.
            step = graph.node("Reciprocal", _size(graph, feature, axis))
        count = _size(graph, feature, axis)
        places = graph.node("Range", graph.constant(0), count, graph.constant(1))
        places = graph.node("Add", places, graph.constant(layer.offset))
        center = graph.node("Mul", places, step)
        extent = graph.node("Div", graph.constant(half[:, 1 - axis]), total)
        # (H, 1, 1, 1) or (W, 1, 1), and (boxes, 1).
        center = graph.node("Unsqueeze", center, graph.integers(range(1, 4 - axis)))
        extent = graph.node("Unsqueeze", extent, graph.integers([1]))
        names.append([graph.node(op, center, extent) for op in ("Sub", "Add")])
    (top, bottom), (left, right) = names
    shape = graph.node("Shape", graph.node("Add", top, left))
    corners = [graph.node("Expand", corner, shape) for corner in (left, top, right, bottom)]
    boxes = graph.node("Concat", *corners, axis=3)
    if layer.clip:
        boxes = graph.node("Clip", boxes, graph.constant(0), graph.constant(1))
    variance = graph.node("Expand", graph.constant(layer.variance), graph.node("Shape", boxes))
    rows = [graph.node("Reshape", x, graph.integers([1, 1, -1])) for x in (boxes, variance)]
    return graph.node("Concat", *rows, axis=1)


def _size(graph: OnnxGraph, value: Value, axis: int) -> str:
    """Return a spatial size, a scalar."""
    size = value.shape[2 + axis]
    if size is not None:
        return graph.constant(size)
    found = graph.node("Gather", graph.node("Shape", value), graph.integers(2 + axis))
    return graph.node("Cast", found, to=graph.onnx.TensorProto.FLOAT)
