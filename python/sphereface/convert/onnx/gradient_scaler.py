"""GradientScaler as an ONNX node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.gradient_scaler import GradientScaler

__all__ = ["gradient_scaler"]


@onnx_layer("GradientScaler")
def gradient_scaler(graph: OnnxGraph, layer: GradientScaler, x: Value) -> str:
    """Write Identity; there is no gradient."""
    return graph.node("Identity", x)
