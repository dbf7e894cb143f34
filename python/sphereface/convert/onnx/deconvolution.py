"""Deconvolution as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.convolution import convolve
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.deconvolution import Deconvolution

__all__ = ["deconvolution"]


@onnx_layer("Deconvolution")
def deconvolution(graph: OnnxGraph, layer: Deconvolution, *bottoms: Value) -> list[str]:
    """Write ConvTranspose of each bottom."""
    return convolve("ConvTranspose", graph, layer, *bottoms)
