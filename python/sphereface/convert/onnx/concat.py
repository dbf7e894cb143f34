"""Concat as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.concat import Concat

__all__ = ["concat"]


@onnx_layer("Concat")
def concat(graph: OnnxGraph, layer: Concat, *bottoms: Value) -> str:
    """Write Concat."""
    return graph.node("Concat", *bottoms, axis=layer.axis % len(bottoms[0].shape))
