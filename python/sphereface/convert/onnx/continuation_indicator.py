"""ContinuationIndicator as ONNX nodes: a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.continuation_indicator import ContinuationIndicator

__all__ = ["continuation_indicator"]


@onnx_layer("ContinuationIndicator")
def continuation_indicator(graph: OnnxGraph, layer: ContinuationIndicator) -> str:
    """Write the marks."""
    return graph.constant(layer.indicators, "indicators")
