"""Insanity as an ONNX node: what TEST computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.insanity import Insanity

__all__ = ["insanity"]


@onnx_layer("Insanity")
def insanity(graph: OnnxGraph, layer: Insanity, x: Value) -> str:
    """Write LeakyRelu."""
    return graph.node("LeakyRelu", x, alpha=1 / layer.divisor)
