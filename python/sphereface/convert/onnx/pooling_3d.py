"""Pooling3D as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.pooling_3d import Pooling3D

__all__ = ["pooling_3d"]


@onnx_layer("Pooling3D")
def pooling_3d(graph: OnnxGraph, layer: Pooling3D, x: Value) -> str:
    """Write MaxPool, or AveragePool where every window is whole."""
    op, options = "MaxPool", {}
    if layer.method == "AVE":
        sizes = [graph.fixed(size, layer) for size in x.shape[2:]]
        steps = zip(sizes, layer.kernel, layer.stride, layer.pad, strict=True)
        if any((size + 2 * p - k) % s for size, k, s, p in steps):
            raise layer.error("averages of windows that are cut at the edge have no ONNX form")
        op, options = "AveragePool", {"count_include_pad": 1}
    return graph.node(
        op,
        x,
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.pad * 2,
        ceil_mode=int(layer.method == "MAX"),
        **options,
    )
