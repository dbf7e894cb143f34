"""LRN as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.lrn import LRN

__all__ = ["lrn"]


@onnx_layer("LRN")
def lrn(graph: OnnxGraph, layer: LRN, x: Value) -> str:
    """Write LRN across channels; within a channel, its composition of pooling and powers."""
    if not layer.within:
        return graph.node(
            "LRN", x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k
        )
    mean = graph.node(
        "AveragePool",
        graph.node("Mul", x, x),
        kernel_shape=[layer.size] * 2,
        pads=[layer.size // 2] * 4,
        count_include_pad=1,
    )
    base = graph.node("Mul", mean, graph.constant(layer.alpha))
    base = graph.node("Add", base, graph.constant(layer.k))
    return graph.node("Mul", x, graph.node("Pow", base, graph.constant(-layer.beta)))
