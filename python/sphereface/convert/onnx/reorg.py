"""Reorg as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.reorg import Reorg

__all__ = ["reorg"]


@onnx_layer("Reorg")
def reorg(graph: OnnxGraph, layer: Reorg, x: Value) -> str:
    """Write DepthToSpace, or Reshape, Transpose and Reshape."""
    stride = layer.stride
    if layer.reverse:
        return graph.node("DepthToSpace", x, blocksize=stride, mode="DCR")
    _, channels, height, width = (graph.fixed(size, layer) for size in (1, *x.shape[1:]))
    parts = [-1, channels // stride**2, height, stride, width, stride]
    y = graph.node("Reshape", x, graph.integers(parts))
    y = graph.node("Transpose", y, perm=[0, 3, 5, 1, 2, 4])
    sizes = [-1, channels * stride**2, height // stride, width // stride]
    return graph.node("Reshape", y, graph.integers(sizes))
