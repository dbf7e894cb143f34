"""BatchNorm as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.batch_norm import BatchNorm

__all__ = ["batch_norm", "normalized"]


@onnx_layer("BatchNorm")
def batch_norm(graph: OnnxGraph, layer: BatchNorm, x: Value) -> str:
    """Write BatchNormalization by the stored statistics, divided by their count.

    With ``use_global_stats: false``, by the statistics of the batch; the stored ones are left out.
    """
    if len(x.shape) < 2:
        raise layer.error(f"a bottom of {len(x.shape)} axes has no ONNX form", expected="2 or more")
    if layer.use_global_stats is False:
        return _affine(graph, layer, x, normalized(graph, x, layer.eps))
    count = layer.scale_factor.item()
    factor = 1 / count if count else 0.0
    weight, bias = layer.weight, layer.bias
    if weight is None or bias is None:
        weight, bias = layer.mean.new_ones(layer.channels), layer.mean.new_zeros(layer.channels)
    blobs = [
        graph.constant(weight, "weight"),
        graph.constant(bias, "bias"),
        graph.constant(layer.mean * factor, "mean"),
        graph.constant(layer.variance * factor, "variance"),
    ]
    return graph.node("BatchNormalization", x, *blobs, epsilon=layer.eps)


def normalized(graph: OnnxGraph, x: Value, eps: float) -> str:
    """Write (x - mean) / sqrt(variance + eps) by the statistics of the batch."""
    # Channels first, because OpenCV 5 takes other means over an axis before one that stays.
    order = [1, 0, *range(2, len(x.shape))]
    rows = graph.node("Transpose", x, perm=order)
    axes = list(range(1, len(x.shape)))
    centred = graph.node("Sub", rows, graph.node("ReduceMean", rows, axes=axes))
    variance = graph.node("ReduceMean", graph.node("Mul", centred, centred), axes=axes)
    deviation = graph.node("Sqrt", graph.node("Add", variance, graph.constant(eps)))
    return graph.node("Transpose", graph.node("Div", centred, deviation), perm=order)


def _affine(graph: OnnxGraph, layer: BatchNorm, x: Value, y: str) -> str:
    if layer.weight is None or layer.bias is None:
        return y
    shape = (1, -1) + (1,) * (len(x.shape) - 2)
    scaled = graph.node("Mul", y, graph.constant(layer.weight.reshape(shape), "weight"))
    return graph.node("Add", scaled, graph.constant(layer.bias.reshape(shape), "bias"))
