"""PSROIPooling as ONNX nodes: products with the shares of positions in bins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.psroi_pooling import PSROIPooling

__all__ = ["psroi_pooling"]


@onnx_layer("PSROIPooling")
def psroi_pooling(graph: OnnxGraph, layer: PSROIPooling, x: Value, region: Value) -> str:
    """Write MatMul over the rows of all images, and a weighted sum over the columns."""
    group, dim = layer.group, layer.output_dim
    height, width = (graph.fixed(size, layer) for size in x.shape[2:])
    cells = graph.node("Reshape", region, graph.integers([-1, 5]))
    number, *corners = graph.split_node("Split", cells, outputs=5, axis=1)
    rows = _weights(graph, layer, corners[1], corners[3], height)  # (bins, R, H)
    columns = _weights(graph, layer, corners[0], corners[2], width)
    count = graph.node("Gather", graph.node("Shape", x), graph.integers(0))
    count = graph.node("Cast", count, to=graph.onnx.TensorProto.FLOAT)
    images = graph.node("Range", graph.constant(0), count, graph.constant(1))
    own = graph.node("Equal", number, images)
    own = graph.node("Cast", own, to=graph.onnx.TensorProto.FLOAT)  # (R, N)
    own = graph.node("Unsqueeze", own, graph.integers([0, 3]))
    rows = graph.node("Mul", own, graph.node("Unsqueeze", rows, graph.integers([2])))
    rows = graph.node("Reshape", rows, graph.integers([0, 0, -1]))
    rows = graph.node("Unsqueeze", rows, graph.integers([1]))
    maps = graph.node("Reshape", x, graph.integers([0, dim, group, group, height, width]))
    maps = graph.node("Transpose", maps, perm=[2, 3, 0, 4, 1, 5])
    maps = graph.node("Reshape", maps, graph.integers([group, group, -1, dim * width]))
    sums = graph.node("MatMul", rows, maps)  # (bins, bins, R, dim * W)
    sums = graph.node("Reshape", sums, graph.integers([group, group, -1, dim, width]))
    columns = graph.node("Unsqueeze", columns, graph.integers([0, 3]))
    found = graph.node(
        "ReduceSum", graph.node("Mul", sums, columns), graph.integers([4]), keepdims=0
    )
    return graph.node("Transpose", found, perm=[2, 3, 0, 1])


def _weights(graph: OnnxGraph, layer: PSROIPooling, near: str, far: str, size: int) -> str:
    """Return the share of each position in each bin, (bins, R, size)."""
    scale, count = graph.constant(layer.spatial_scale), layer.group
    start, end = (_rounded(graph, corner) for corner in (near, far))
    start = graph.node("Mul", start, scale)
    end = graph.node("Mul", graph.node("Add", end, graph.constant(1)), scale)
    length = graph.node("Max", graph.node("Sub", end, start), graph.constant(0.1))
    step = graph.node("Div", length, graph.constant(count))
    place = np.arange(count)[:, None, None]
    limits = graph.constant(0), graph.constant(size)
    bounds = []
    for shift, op in ((0, "Floor"), (1, "Ceil")):
        moved = graph.node("Mul", step, graph.constant(place + shift))
        bound = graph.node(op, graph.node("Add", moved, start))
        bounds.append(graph.node("Clip", bound, *limits))
    first, last = bounds
    position = graph.constant(np.arange(size)[None, None])
    after = graph.node("GreaterOrEqual", position, first)
    inside = graph.node("And", after, graph.node("Less", position, last))
    inside = graph.node("Cast", inside, to=graph.onnx.TensorProto.FLOAT)
    length = graph.node("Max", graph.node("Sub", last, first), graph.constant(1))
    return graph.node("Div", inside, length)


def _rounded(graph: OnnxGraph, value: str) -> str:
    """Round halves away from zero."""
    size = graph.node("Add", graph.node("Abs", value), graph.constant(0.5))
    return graph.node("Mul", graph.node("Sign", value), graph.node("Floor", size))
