"""SpatialTransformer as ONNX nodes: GridSample where theta takes a fixed grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.spatial_transformer import SpatialTransformer

__all__ = ["spatial_transformer"]


@onnx_layer("SpatialTransformer")
def spatial_transformer(graph: OnnxGraph, layer: SpatialTransformer, x: Value, theta: Value) -> str:
    """Write MatMul and GridSample."""
    height, width = layer.size
    rows, columns = (graph.fixed(size, layer) for size in x.shape[2:])
    place = np.ones((height * width, 3), np.float32)
    place[:, :2] = np.indices((height, width)).reshape(2, -1).T
    place[:, :2] = place[:, :2] * (2 / height, 2 / width) - 1
    free = layer.fixed.count(None)
    # The values of theta to their places in a 3 x 2 matrix, columns of x before its rows.
    to = np.zeros((free, 3, 2), np.float32)
    known = np.zeros((1, 3, 2), np.float32)
    number = 0
    for at, value in enumerate(layer.fixed):
        spot = (at % 3, 1 - at // 3)
        if value is None:
            to[number][spot] = 1
            number += 1
        else:
            known[0][spot] = value
    own = graph.node("Reshape", theta, graph.integers([-1, free]))
    matrix = graph.node("MatMul", own, graph.constant(to.reshape(free, 6)))
    matrix = graph.node("Reshape", matrix, graph.integers([-1, 3, 2]))
    matrix = graph.node("Add", matrix, graph.constant(known))
    grid = graph.node("MatMul", graph.constant(place), matrix)
    grid = graph.node("Add", grid, graph.constant([1 / columns, 1 / rows]))
    grid = graph.node("Reshape", grid, graph.integers([-1, height, width, 2]))
    return graph.node("GridSample", x, grid, mode="bilinear", padding_mode="zeros", align_corners=0)
