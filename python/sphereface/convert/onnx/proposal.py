"""Proposal as ONNX nodes: TopK ranks, NonMaxSuppression suppresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.proposal import Proposal

__all__ = ["proposal"]

_END = 2**31 - 1


@onnx_layer("Proposal")
def proposal(
    graph: OnnxGraph, layer: Proposal, score: Value, offset: Value, info: Value
) -> str | list[str]:
    """Write the decoding, the ranking and the suppression of one image's boxes."""
    count = len(layer.anchors)
    height, width, scale = _image(graph, info)
    box = _boxes(graph, layer, offset)
    one = graph.constant(1)
    limit = graph.node("Sub", graph.node("Concat", width, height, width, height, axis=0), one)
    box = graph.node("Min", graph.node("Max", box, graph.constant(0)), limit)
    ends = [graph.integers([0, count]), graph.integers([_END, _END]), graph.integers([0, 1])]
    found = graph.node("Slice", score, *ends)
    found = graph.node("Transpose", found, perm=[0, 2, 3, 1])
    found = graph.node("Reshape", found, graph.integers([-1]))
    near, far = graph.split_node("Split", box, graph.integers([2, 2]), outputs=2, axis=1)
    side = graph.node("Add", graph.node("Sub", far, near), one)
    side = graph.node("ReduceMin", side, axes=[1], keepdims=0)
    least = graph.node("Mul", scale, graph.constant(layer.min_size)) if scale else ""
    least = least or graph.constant(layer.min_size)
    large = graph.node("NonZero", graph.node("GreaterOrEqual", side, least))
    large = graph.node("Reshape", large, graph.integers([-1]))
    found, box = (graph.node("Gather", value, large, axis=0) for value in (found, box))
    most = graph.node("Min", graph.node("Shape", found), graph.integers([layer.pre_nms]))
    found, best = graph.split_node("TopK", found, most, outputs=2, axis=0)
    box = graph.node("Gather", box, best, axis=0)
    rimmed = graph.node("Add", box, graph.constant([0, 0, 1, 1]))
    chosen = graph.node(
        "NonMaxSuppression",
        graph.node("Unsqueeze", rimmed, graph.integers([0])),
        graph.node("Unsqueeze", found, graph.integers([0, 1])),
        graph.integers([layer.post_nms]),
        graph.constant([layer.threshold]),
    )
    chosen = graph.node("Gather", chosen, graph.integers(2), axis=1)
    box = graph.node("Gather", box, chosen, axis=0)
    found = graph.node("Unsqueeze", graph.node("Gather", found, chosen), graph.integers([1]))
    zero = graph.node("Mul", found, graph.constant(0))
    region = graph.node("Concat", zero, box, axis=1)
    return region if layer.top_count == 1 else [region, found]


def _image(graph: OnnxGraph, info: Value) -> tuple[str, str, str]:
    """Return the image's height, width and scale, each of shape (1,)."""
    size = 3 if info.shape[-1] == 3 else 2
    flat = graph.node("Reshape", info, graph.integers([-1]))
    height, width, *scale = graph.split_node(
        "Split", flat, graph.integers([1] * size), outputs=size, axis=0
    )
    return height, width, scale[0] if scale else ""


def _boxes(graph: OnnxGraph, layer: Proposal, offset: Value) -> str:
    """Return the decoded boxes, (H * W * anchors, 4)."""
    height, width = (graph.fixed(size, layer) for size in offset.shape[2:])
    y, x = np.mgrid[:height, :width] * layer.stride
    shift = np.stack([x, y, x, y], 2)[:, :, None].astype(np.float32)
    anchor = (shift + np.asarray(layer.anchors, np.float32)).reshape(-1, 4)
    size = anchor[:, 2:] - anchor[:, :2] + 1
    rows = graph.node("Transpose", offset, perm=[0, 2, 3, 1])
    rows = graph.node("Reshape", rows, graph.integers([-1, 4]))
    moved, grown = graph.split_node("Split", rows, graph.integers([2, 2]), outputs=2, axis=1)
    middle = graph.constant(anchor[:, :2] + size / 2)
    center = graph.node("Add", graph.node("Mul", moved, graph.constant(size)), middle)
    half = graph.node("Mul", graph.node("Exp", grown), graph.constant(size / 2))
    return graph.node("Concat", *(graph.node(op, center, half) for op in ("Sub", "Add")), axis=1)
