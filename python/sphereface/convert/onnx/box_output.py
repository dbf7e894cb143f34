"""BoxOutput and BoxGroupOutput of one image as ONNX: TopK ranks, NonMaxSuppression suppresses.

What differs: where nothing is found the tops have no rows; runtimes refuse other batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.box_output import BoxGroupOutput, BoxOutput

__all__ = ["box_group_output", "box_output"]

_END = 2**31 - 1


@onnx_layer("BoxOutput")
def box_output(graph: OnnxGraph, layer: BoxOutput, *maps: Value) -> str | list[str]:
    """Write boxes of width and height, and the score above the background's."""
    scores, boxes, sizes = [], [], []
    for x, field, stride in zip(maps, layer.fields, layer.strides, strict=True):
        places = _places(graph, layer, x.shape, fields=1)
        count = graph.fixed(x.shape[1], layer) - 4
        parts = graph.integers([1, count - 1, 4])
        ground, classes, offset = graph.split_node("Split", x, parts, outputs=3, axis=1)
        best = graph.node("ReduceMax", classes, axes=[1], keepdims=1)
        scores.append(_flat(graph, graph.node("Sub", best, ground), places))
        near, size, limit = _boxes(graph, layer, offset, x.shape, [field], stride)
        near = graph.node("Max", near, graph.constant(0))
        size = graph.node("Min", size, graph.node("Sub", limit, near))
        boxes.append(_rows(graph, near, graph.node("Add", near, size), places))
        sizes.append(_flat(graph, graph.node("ReduceMin", size, axes=[1], keepdims=0), places))
    return _chosen(graph, layer, scores, boxes, sizes, rim=0)


@onnx_layer("BoxGroupOutput")
def box_group_output(graph: OnnxGraph, layer: BoxGroupOutput, *maps: Value) -> str | list[str]:
    """Write boxes of two corners, and 1 less the background's probability as their score."""
    scores, boxes, sizes = [], [], []
    one = graph.constant(1)
    pairs = zip(maps[::2], maps[1::2], strict=True)
    for (p, offset), group, stride in zip(pairs, layer.fields, layer.strides, strict=True):
        places = _places(graph, layer, offset.shape, fields=len(group))
        ground = graph.node("Gather", p, graph.integers(0), axis=1)
        scores.append(_flat(graph, graph.node("Sub", one, ground), places))
        near, size, limit = _boxes(graph, layer, offset, offset.shape, group, stride)
        far = graph.node("Sub", graph.node("Add", near, size), one)
        near, far = graph.node("Max", near, graph.constant(0)), graph.node("Min", far, limit)
        boxes.append(_rows(graph, near, far, places))
        size = graph.node("Add", graph.node("Sub", far, near), one)
        sizes.append(_flat(graph, graph.node("ReduceMin", size, axes=[1], keepdims=0), places))
    return _chosen(graph, layer, scores, boxes, sizes, rim=1)


def _places(
    graph: OnnxGraph,
    layer: BoxOutput | BoxGroupOutput,
    shape: Sequence[int | None],
    fields: int,
) -> int:
    """Return how many boxes a map of one image has; batches that are known are refused here."""
    if shape[0] not in (fields, None):
        raise layer.error(
            f"{shape[0] // fields} images have no ONNX form",
            expected="1, for boxes are ranked together",
            fix="give the prototxt a batch of 1",
        )
    height, width = (graph.fixed(size, layer) for size in shape[2:])
    return fields * height * width


def _flat(graph: OnnxGraph, value: str, count: int = -1) -> str:
    return graph.node("Reshape", value, graph.integers([count]))


def _rows(graph: OnnxGraph, near: str, far: str, count: int) -> str:
    """Return corners (F, 2, H, W) as rows, in the order of `_flat`."""
    both = graph.node("Transpose", graph.node("Concat", near, far, axis=1), perm=[0, 2, 3, 1])
    return graph.node("Reshape", both, graph.integers([count, 4]))


def _boxes(
    graph: OnnxGraph,
    layer: BoxOutput | BoxGroupOutput,
    offset: str | Value,
    shape: Sequence[int | None],
    fields: Sequence[tuple[float, float]],
    stride: int,
) -> tuple[str, str, str]:
    """Return near corners and sizes, (F, 2, H, W), and the image's size, all of one image."""
    height, width = (graph.fixed(size, layer) for size in shape[2:])
    unit = np.reshape(np.asarray(layer.deviations, np.float32), (4, 1, 1))
    shift = np.reshape(np.asarray(layer.means, np.float32), (4, 1, 1))
    own = graph.node("Mul", offset, graph.constant(unit))
    own = graph.node("Add", own, graph.constant(shift))
    moved, grown = graph.split_node("Split", own, graph.integers([2, 2]), outputs=2, axis=1)
    size = graph.constant(np.asarray(fields, np.float32)[:, :, None, None])
    row, column = (np.mgrid[:height, :width] + 0.5) * stride
    farthest, growth = layer.bounds
    center = graph.node("Mul", _clip(graph, moved, farthest), size)
    center = graph.node("Add", center, graph.constant(np.stack([column, row]).astype(np.float32)))
    extent = graph.node("Mul", size, graph.node("Exp", _clip(graph, grown, growth)))
    near = graph.node("Sub", center, graph.node("Mul", extent, graph.constant(0.5)))
    limit = np.reshape(np.asarray([width * stride, height * stride], np.float32), (2, 1, 1))
    return near, extent, graph.constant(limit)


def _clip(graph: OnnxGraph, value: str, most: float) -> str:
    low = graph.node("Max", value, graph.constant(-most))
    return graph.node("Min", low, graph.constant(most))


def _chosen(
    graph: OnnxGraph,
    layer: BoxOutput | BoxGroupOutput,
    scores: list[str],
    boxes: list[str],
    sizes: list[str],
    rim: int,
) -> str | list[str]:
    score, box, size = (graph.node("Concat", *v, axis=0) for v in (scores, boxes, sizes))
    likely = graph.node("GreaterOrEqual", score, graph.constant(layer.threshold))
    large = graph.node("GreaterOrEqual", size, graph.constant(layer.min_size))
    kept = _flat(graph, graph.node("NonZero", graph.node("And", likely, large)))
    score, box = (graph.node("Gather", value, kept, axis=0) for value in (score, box))
    most = graph.node("Min", graph.node("Shape", score), graph.integers([layer.most or _END]))
    score, best = graph.split_node("TopK", score, most, outputs=2, axis=0)
    box = graph.node("Gather", box, best, axis=0)
    chosen = graph.node(
        "NonMaxSuppression",
        graph.node(
            "Unsqueeze",
            graph.node("Add", box, graph.constant([0, 0, rim, rim])),
            graph.integers([0]),
        ),
        graph.node("Unsqueeze", score, graph.integers([0, 1])),
        graph.integers([layer.most_after or _END]),
        graph.constant([layer.overlap]),
    )
    chosen = graph.node("Gather", chosen, graph.integers(2), axis=1)
    box = graph.node("Gather", box, chosen, axis=0)
    score = graph.node("Unsqueeze", graph.node("Gather", score, chosen), graph.integers([1]))
    zero = graph.node("Mul", score, graph.constant(0))
    region = graph.node("Concat", zero, box, axis=1)
    tops = [region, graph.node("Concat", region, score, axis=1)][: layer.top_count]
    shapes = ([-1, 5, 1, 1], [-1, 6, 1, 1])
    tops = [
        graph.node("Reshape", top, graph.integers(shape))
        for top, shape in zip(tops, shapes, strict=False)
    ]
    return tops[0] if len(tops) == 1 else tops
