"""Permute as an ONNX node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.permute import Permute

__all__ = ["permute"]


@onnx_layer("Permute")
def permute(graph: OnnxGraph, layer: Permute, x: Value) -> str:
    """Write Transpose."""
    return graph.node("Transpose", x, perm=layer.order)
