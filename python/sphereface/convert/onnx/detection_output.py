"""DetectionOutput as ONNX nodes: NonMaxSuppression suppresses, TopK ranks.

Of boxes in pixels (``normalized_bbox: false``) two that are less than a pixel apart overlap a
little here, and not at all in the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.detection_output import DetectionOutput

__all__ = ["detection_output"]

_MANY = 2**31 - 1


@onnx_layer("DetectionOutput")
def detection_output(
    graph: OnnxGraph,
    layer: DetectionOutput,
    location: Value,
    confidence: Value,
    prior: Value,
    *more: Value,
) -> str:
    """Write the decoding, the suppression in each class of each image, and the best of an image."""
    if layer.eta < 1:
        raise layer.error("eta, an overlap that changes, has no ONNX form", expected="eta 1")
    labels = [label for label in range(layer.classes) if label != layer.background]
    shown = graph.integers(labels)
    rows = graph.node("Reshape", confidence, graph.integers([0, -1, layer.classes]))
    if len(more) == 2:
        rows = _objects(graph, layer, rows, more[0])
    score = graph.node("Transpose", graph.node("Gather", rows, shown, axis=2), perm=[0, 2, 1])
    places = graph.integers([0] * len(labels)) if layer.share_location else shown
    box = graph.node("Gather", _boxes(graph, layer, location, prior, *more), places, axis=2)
    box = graph.node("Transpose", box, perm=[0, 2, 1, 3])
    # From here on best first: (N, classes, K) and (N, classes, K, 4).
    score, box = _ranked(graph, score, box, layer.top_k)
    count = _sizes(graph, score, 2, 3)
    grouped = graph.node("Reshape", score, _joined(graph, [-1], count))
    boxes = graph.node("Reshape", box, _joined(graph, [-1], count, [4]))
    rimmed = boxes
    if not layer.normalized:
        rimmed = graph.node("Add", boxes, graph.constant([0, 0, 1, 1]))
    found = graph.node(
        "NonMaxSuppression",
        rimmed,
        graph.node("Unsqueeze", grouped, graph.integers([1])),
        graph.integers([_MANY]),
        graph.constant([layer.nms_threshold]),
        graph.constant([layer.confidence_threshold]),
    )
    kept = graph.node("Gather", found, graph.integers([0, 2]), axis=1)  # group, rank
    if layer.keep_top_k >= 0:
        kept = _best_of_image(graph, layer, score, grouped, kept)
    return _rows(graph, location, labels, kept, grouped, boxes)


def _boxes(
    graph: OnnxGraph, layer: DetectionOutput, location: Value, prior: Value, *more: Value
) -> str:
    """Return the decoded boxes, (N, priors, classes or 1, 4)."""
    locations = 1 if layer.share_location else layer.classes
    offset = graph.node("Reshape", location, graph.integers([0, -1, locations, 4]))
    first = graph.node("Reshape", more[1], graph.integers([0, -1, 1, 4])) if len(more) == 2 else ""
    if layer.variance_in_target:
        box = graph.node("Reshape", prior, graph.integers([1, -1, 1, 4]))
    else:
        both = graph.node("Reshape", prior, graph.integers([2, -1, 1, 4]))
        box, variance = graph.split_node("Split", both, graph.integers([1, 1]), outputs=2, axis=0)
        offset = graph.node("Mul", offset, variance)
        first = first and graph.node("Mul", first, variance)
    if first:
        box = _decoded(graph, layer, first, box)
    found = _decoded(graph, layer, offset, box)
    if not layer.clip:
        return found
    if layer.normalized:
        return graph.node("Clip", found, graph.constant(0), graph.constant(1))
    sizes = graph.node("Gather", graph.node("Shape", more[0]), graph.integers([3, 2, 3, 2]))
    sizes = graph.node("Cast", sizes, to=graph.onnx.TensorProto.FLOAT)
    limit = graph.node("Sub", sizes, graph.constant(1))
    return graph.node("Min", graph.node("Max", found, graph.constant(0)), limit)


def _objects(graph: OnnxGraph, layer: DetectionOutput, rows: str, first: Value) -> str:
    """Return the scores (N, priors, classes), background's where the first step saw no object."""
    pairs = graph.node("Reshape", first, graph.integers([0, -1, 2]))
    score = graph.node("Gather", pairs, graph.integers([1]), axis=2)
    no_object = graph.node("Less", score, graph.constant(layer.objectness))
    background = graph.constant([1.0] + [0.0] * (layer.classes - 1))
    return graph.node("Where", no_object, background, rows)


def _decoded(graph: OnnxGraph, layer: DetectionOutput, offset: str, box: str) -> str:
    """Return the boxes that lie at `offset` from `box`."""
    if layer.code_type == "CORNER":
        found = graph.node("Add", box, offset)
    else:
        halves = graph.integers([2, 2])
        near, far = graph.split_node("Split", box, halves, outputs=2, axis=3)
        size = graph.node("Sub", far, near)
        if not layer.normalized:
            size = graph.node("Add", size, graph.constant(1))
        if layer.code_type == "CORNER_SIZE":
            sizes = graph.node("Concat", size, size, axis=3)
            found = graph.node("Add", box, graph.node("Mul", offset, sizes))
        else:
            moved, grown = graph.split_node("Split", offset, halves, outputs=2, axis=3)
            half = graph.node("Mul", size, graph.constant(0.5))
            center = graph.node(
                "Add", graph.node("Add", near, half), graph.node("Mul", moved, size)
            )
            half = graph.node("Mul", graph.node("Exp", grown), half)
            ends = [graph.node(op, center, half) for op in ("Sub", "Add")]
            found = graph.node("Concat", *ends, axis=3)
    return found


def _ranked(graph: OnnxGraph, score: str, box: str, top_k: int) -> tuple[str, str]:
    count = _sizes(graph, score, 2, 3)
    if top_k >= 0:
        count = graph.node("Min", count, graph.integers([top_k]))
    score, place = graph.split_node("TopK", score, count, outputs=2, axis=2)
    place = graph.node("Unsqueeze", place, graph.integers([3]))
    place = graph.node("Tile", place, graph.integers([1, 1, 1, 4]))
    return score, graph.node("GatherElements", box, place, axis=2)


def _best_of_image(
    graph: OnnxGraph, layer: DetectionOutput, score: str, grouped: str, kept: str
) -> str:
    """Return which of the boxes `kept` are among the keep_top_k best of their image."""
    nothing = graph.constant(-np.inf)
    shape = graph.node("Shape", grouped)
    blank = graph.node("Expand", nothing, shape)
    values = graph.node("ScatterND", blank, kept, graph.node("GatherND", grouped, kept))
    images = _joined(graph, _sizes(graph, score, 0, 1), [-1])
    values = graph.node("Reshape", values, images)
    most = graph.node("Min", _sizes(graph, values, 1, 2), graph.integers([layer.keep_top_k]))
    best, place = graph.split_node("TopK", values, most, outputs=2, axis=1)
    real = graph.node("Greater", best, nothing)
    real = graph.node("Cast", real, to=graph.onnx.TensorProto.FLOAT)
    zeros = graph.node("Expand", graph.constant(0), graph.node("Shape", values))
    marks = graph.node("ScatterElements", zeros, place, real, axis=1)
    found = graph.node("NonZero", graph.node("Reshape", marks, shape))
    return graph.node("Transpose", found, perm=[1, 0])


def _rows(
    graph: OnnxGraph, location: Value, labels: list[int], kept: str, grouped: str, boxes: str
) -> str:
    """Return the rows of the boxes `kept`, or one of -1 an image if there are none."""
    float_type = graph.onnx.TensorProto.FLOAT
    group = graph.node("Gather", kept, graph.integers([0]), axis=1)
    classes = graph.integers([len(labels)])
    image = graph.node("Div", group, classes)
    label = graph.node("Gather", graph.integers(labels), graph.node("Mod", group, classes))
    head = [graph.node("Cast", x, to=float_type) for x in (image, label)]
    score = graph.node("GatherND", grouped, kept)
    score = graph.node("Unsqueeze", score, graph.integers([1]))
    found = graph.node("Concat", *head, score, graph.node("GatherND", boxes, kept), axis=1)
    images = _sizes(graph, location, 0, 1)
    none = graph.node("Equal", _sizes(graph, found, 0, 1), graph.integers([0]))
    none = graph.node("Cast", none, to=graph.onnx.TensorProto.INT64)
    one = graph.node("Expand", graph.constant([[1]]), _joined(graph, images, [1]))
    number = graph.node("CumSum", one, graph.integers(0), exclusive=1)
    blank = graph.node("Expand", graph.constant([[-1]]), _joined(graph, images, [6]))
    blank = graph.node("Concat", number, blank, axis=1)
    blank = graph.node(
        "Slice",
        blank,
        graph.integers([0]),
        graph.node("Mul", images, none),
        graph.integers([0]),
    )
    rows = graph.node("Concat", found, blank, axis=0)
    return graph.node("Unsqueeze", rows, graph.integers([0, 1]))


def _sizes(graph: OnnxGraph, value: str | Value, start: int, end: int) -> str:
    return graph.node(
        "Slice", graph.node("Shape", value), graph.integers([start]), graph.integers([end])
    )


def _joined(graph: OnnxGraph, *parts: str | list[int]) -> str:
    """Return a shape made of known and computed sizes."""
    names = [part if isinstance(part, str) else graph.integers(part) for part in parts]
    return graph.node("Concat", *names, axis=0)
