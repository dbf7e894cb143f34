"""Tile as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.tile import Tile

__all__ = ["tile"]


@onnx_layer("Tile")
def tile(graph: OnnxGraph, layer: Tile, x: Value) -> str:
    """Write Tile."""
    repeats = [1] * len(x.shape)
    repeats[layer.axis] = layer.tiles
    return graph.node("Tile", x, graph.integers(repeats))
