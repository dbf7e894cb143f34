"""BatchNorm as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.batch_norm import BatchNorm

__all__ = ["batch_norm"]


@onnx_layer("BatchNorm")
def batch_norm(graph: OnnxGraph, layer: BatchNorm, x: Value) -> str:
    """Write BatchNormalization by the stored statistics, divided by their count.

    With ``use_global_stats: false``, by the statistics of the batch; the stored ones are left out.
    """
    if len(x.shape) < 2:
        raise layer.error(f"a bottom of {len(x.shape)} axes has no ONNX form", expected="2 or more")
    if layer.use_global_stats is False:
        # Channels first, because OpenCV 5 takes other means over an axis before one that stays.
        order = [1, 0, *range(2, len(x.shape))]
        rows = graph.node("Transpose", x, perm=order)
        axes = list(range(1, len(x.shape)))
        centred = graph.node("Sub", rows, graph.node("ReduceMean", rows, axes=axes))
        variance = graph.node("ReduceMean", graph.node("Mul", centred, centred), axes=axes)
        deviation = graph.node("Sqrt", graph.node("Add", variance, graph.constant(layer.eps)))
        return graph.node("Transpose", graph.node("Div", centred, deviation), perm=order)
    count = layer.scale_factor.item()
    factor = 1 / count if count else 0.0
    ones, zeros = layer.mean.new_ones(layer.channels), layer.mean.new_zeros(layer.channels)
    blobs = [
        graph.constant(ones),
        graph.constant(zeros),
        graph.constant(layer.mean * factor, "mean"),
        graph.constant(layer.variance * factor, "variance"),
    ]
    return graph.node("BatchNormalization", x, *blobs, epsilon=layer.eps)
