"""ONNX nodes of the layers with parameters other than convolutions: products, norms, factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sphereface.convert.onnx_graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.batch_norm import BatchNorm
    from sphereface.caffe.layers.bias import Bias
    from sphereface.caffe.layers.bn import BN
    from sphereface.caffe.layers.channel_scale import ChannelScale
    from sphereface.caffe.layers.embed import Embed
    from sphereface.caffe.layers.inner_product import InnerProduct
    from sphereface.caffe.layers.normalize import Normalize
    from sphereface.caffe.layers.parameter import Parameter
    from sphereface.caffe.layers.scale import Scale

_EPSILON = 1e-6  # of Normalize

__all__ = [
    "batch_norm", "bias", "bn", "channel_scale", "embed", "inner_product", "normalize", "parameter",
    "scale",
]  # fmt: skip


@onnx_layer("InnerProduct")
def inner_product(graph: OnnxGraph, layer: InnerProduct, x: Value, *weights: Value) -> str:
    """Write Flatten and Gemm; from a later axis on, Reshape and MatMul."""
    name = x.name
    if len(x.shape) > layer.axis + 1:
        if layer.axis == 1:
            name = graph.node("Flatten", x, axis=1)
        else:
            name = graph.node("Reshape", x, graph.integers([0] * layer.axis + [-1]))
    if weights:
        rows = graph.node("Flatten", weights[0], axis=1)
        terms = [weights[1].name] if len(weights) == 2 else []
    else:
        weight = layer._normalized(layer.weight) if layer.normalize else layer.weight
        rows, terms = graph.constant(weight, "weight"), []
    if layer.bias is not None:
        terms = [graph.constant(layer.bias, "bias")]
    transposed = not layer.transpose
    if layer.axis == 1:
        return graph.node("Gemm", name, rows, *terms, transB=int(transposed))
    if transposed:
        rows = graph.node("Transpose", rows, perm=[1, 0])
    y = graph.node("MatMul", name, rows)
    return graph.node("Add", y, *terms) if terms else y


@onnx_layer("Embed")
def embed(graph: OnnxGraph, layer: Embed, x: Value) -> str:
    """Write Gather of rows, plus the bias."""
    index = graph.node("Cast", x, to=graph.onnx.TensorProto.INT64)
    rows = graph.node("Gather", graph.constant(layer.weight, "weight"), index, axis=0)
    return (
        rows if layer.bias is None else graph.node("Add", rows, graph.constant(layer.bias, "bias"))
    )


@onnx_layer("BatchNorm")
def batch_norm(graph: OnnxGraph, layer: BatchNorm, x: Value) -> str:
    """Write BatchNormalization by the stored statistics, divided by their count."""
    if layer.use_global_stats is False:
        raise layer.error(
            "use_global_stats: false has no ONNX form", expected="true, or no option, in TEST"
        )
    if len(x.shape) < 2:
        raise layer.error(f"a bottom of {len(x.shape)} axes has no ONNX form", expected="2 or more")
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


@onnx_layer("BN")
def bn(graph: OnnxGraph, layer: BN, x: Value) -> str:
    """Write BatchNormalization."""
    names = ("weight", "bias", "mean", "variance")
    blobs = [graph.constant(getattr(layer, name).flatten(), name) for name in names]
    return graph.node("BatchNormalization", x, *blobs, epsilon=layer.eps)


@onnx_layer("Scale")
def scale(graph: OnnxGraph, layer: Scale, x: Value, *factors: Value) -> str:
    """Write Mul, then Add of the bias."""
    if factors:
        factor = _spread_value(graph, layer, factors[0], x)
        if layer.min_value is not None:
            factor = graph.node("Max", factor, graph.constant(layer.min_value))
    else:
        weight = layer.weight
        if layer.min_value is not None:
            weight = weight.clamp(min=layer.min_value)
        factor = graph.constant(_spread(layer, weight, x), "weight")
    y = graph.node("Mul", x, factor)
    if not layer.bias_term:
        return y
    return graph.node("Add", y, graph.constant(_spread(layer, layer.bias, x), "bias"))


@onnx_layer("Bias")
def bias(graph: OnnxGraph, layer: Bias, x: Value, *terms: Value) -> str:
    """Write Add."""
    if terms:
        return graph.node("Add", x, _spread_value(graph, layer, terms[0], x))
    return graph.node("Add", x, graph.constant(_spread(layer, layer.bias, x), "bias"))


@onnx_layer("ChannelScale")
def channel_scale(graph: OnnxGraph, layer: ChannelScale, x: Value, factor: Value) -> str:
    """Write Mul, the factors reshaped to one channel."""
    wanted = (x.shape[0], 1, *x.shape[2:])
    if factor.shape == wanted:
        return graph.node("Mul", x, factor)
    sizes = [size for size in wanted[1:] if size is not None]
    if len(sizes) < len(wanted) - 1:
        raise layer.error(
            f"factors of shape {factor.shape} over images of free size have no ONNX form",
            expected="factors with one channel",
        )
    return graph.node("Mul", x, graph.node("Reshape", factor, graph.integers([0, *sizes])))


@onnx_layer("Normalize")
def normalize(graph: OnnxGraph, layer: Normalize, x: Value) -> str | list[str]:
    """Write Div by the norm over the channels."""
    axis = graph.integers([1])
    if layer.normalize_type == "L2":
        squares = graph.node("ReduceSum", graph.node("Mul", x, x), axis)
        norm = graph.node("Sqrt", graph.node("Add", squares, graph.constant(_EPSILON)))
    else:
        total = graph.node("ReduceSum", graph.node("Abs", x), axis)
        norm = graph.node("Add", total, graph.constant(_EPSILON))
    y = graph.node("Div", x, norm)
    return y if layer.top_count == 1 else [y, norm]


@onnx_layer("Parameter")
def parameter(graph: OnnxGraph, layer: Parameter) -> str:
    """Write the blob as a constant."""
    return graph.constant(layer.weight, "weight")


def _spread(layer: Bias, small: Tensor, x: Value) -> Tensor:
    """Return `small` with axes of size 1 appended, so that it broadcasts over `x`."""
    return small.reshape(tuple(small.shape) + (1,) * _axes_behind(layer, small.dim(), x))


def _spread_value(graph: OnnxGraph, layer: Bias, small: Value, x: Value) -> str:
    behind = _axes_behind(layer, len(small.shape), x)
    if not behind:
        return small.name
    return graph.node("Reshape", small, graph.integers([0] * len(small.shape) + [1] * behind))


def _axes_behind(layer: Bias, axes: int, x: Value) -> int:
    return len(x.shape) - layer.axis % len(x.shape) - axes if axes else 0
