"""SPP as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.pooling import LOWEST
from sphereface.caffe.layers.spp import window_of
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer
from sphereface.convert.onnx.pooling import padded

if TYPE_CHECKING:
    from sphereface.caffe.layers.spp import SPP

__all__ = ["spp"]


@onnx_layer("SPP")
def spp(graph: OnnxGraph, layer: SPP, x: Value) -> str:
    """Write Pad and a pooling for each level, then Concat."""
    height, width = x.shape[2:]
    if height is None or width is None:
        raise layer.error("the windows depend on the image size", expected="a fixed one for ONNX")
    if layer.method == "STOCHASTIC":
        raise layer.error("pool: STOCHASTIC has no ONNX form", expected="MAX or AVE")
    levels = []
    for level in range(layer.pyramid_height):
        rows, top, bottom = window_of(height, 2**level)
        columns, left, right = window_of(width, 2**level)
        value = LOWEST if layer.method == "MAX" else 0
        image = padded(graph, x.name, [top, left, bottom, right], value)
        op = "MaxPool" if layer.method == "MAX" else "AveragePool"
        window = [rows, columns]
        levels.append(graph.node(op, image, kernel_shape=window, strides=window))
    if len(levels) == 1:
        return levels[0]
    return graph.node("Concat", *[graph.node("Flatten", y, axis=1) for y in levels], axis=1)
