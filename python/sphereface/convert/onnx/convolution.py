"""Convolution and DepthwiseConvolution as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.convolution import Convolution

__all__ = ["convolution", "convolve"]


@onnx_layer(
    "Convolution",
    "Convolution3D",
    "ConvolutionDepthwise",
    "ConvolutionRistretto",
    "HoleConvolution",
    "DepthwiseConvolution",
)
def convolution(graph: OnnxGraph, layer: Convolution, *bottoms: Value) -> list[str]:
    """Write Conv of each bottom."""
    return convolve("Conv", graph, layer, *bottoms)


def convolve(op: str, graph: OnnxGraph, layer: Convolution, *bottoms: Value) -> list[str]:
    """Write `op`, Conv or ConvTranspose, of each bottom."""
    if layer.axis != 1:
        raise layer.error(f"axis {layer.axis} has no ONNX form", expected="axis 1")
    weights = [graph.constant(layer.weight, "weight")]
    if layer.bias is not None:
        weights.append(graph.constant(layer.bias, "bias"))
    return [
        graph.node(
            op,
            bottom,
            *weights,
            kernel_shape=layer.kernel,
            strides=layer.stride,
            pads=layer.pad * 2,
            dilations=layer.dilation,
            group=layer.group,
        )
        for bottom in bottoms
    ]
