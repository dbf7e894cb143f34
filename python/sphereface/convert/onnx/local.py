"""Local as ONNX nodes: a convolution that copies patches, and a product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.local import Local

__all__ = ["local"]


@onnx_layer("Local")
def local(graph: OnnxGraph, layer: Local, x: Value) -> str:
    """Write Conv, Mul and ReduceSum."""
    channels, kernel = layer.image[0], layer.kernel
    count, _, depth, places = layer.weight.shape
    copies = np.eye(depth, dtype=np.float32).reshape(depth, channels, kernel, kernel)
    patches = graph.node(
        "Conv",
        x,
        graph.constant(copies),
        kernel_shape=[kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.pad] * 4,
    )
    patches = graph.node("Reshape", patches, graph.integers([-1, 1, depth, places]))
    weight = graph.node(
        "Reshape", graph.constant(layer.weight, "weight"), graph.integers([1, count, depth, places])
    )
    y = graph.node("ReduceSum", graph.node("Mul", patches, weight), graph.integers([2]), keepdims=0)
    if layer.bias is not None:
        bias = graph.node(
            "Reshape", graph.constant(layer.bias, "bias"), graph.integers([1, count, places])
        )
        y = graph.node("Add", y, bias)
    return graph.node("Reshape", y, graph.integers([-1, count, *layer.size]))
