"""ONNX nodes of the layers over images: convolutions, pooling, LRN, SPP, MVN, Crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sphereface.convert.onnx_graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.convolution import Convolution
    from sphereface.caffe.layers.crop import Crop
    from sphereface.caffe.layers.lrn import LRN
    from sphereface.caffe.layers.mvn import MVN
    from sphereface.caffe.layers.pooling import Pooling
    from sphereface.caffe.layers.spp import SPP

__all__ = ["convolution", "crop", "lrn", "mvn", "pooling", "spp"]

_LOWEST = float(torch.finfo(torch.float32).min)


@onnx_layer("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "Deconvolution")
def convolution(graph: OnnxGraph, layer: Convolution, *bottoms: Value) -> list[str]:
    """Write Conv, or ConvTranspose for Deconvolution, of each bottom."""
    if layer.axis != 1:
        raise layer.error(f"axis {layer.axis} has no ONNX form", expected="axis 1")
    weights = [graph.constant(layer.weight, "weight")]
    if layer.bias is not None:
        weights.append(graph.constant(layer.bias, "bias"))
    op = "ConvTranspose" if layer.type == "Deconvolution" else "Conv"
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


@onnx_layer("Pooling")
def pooling(graph: OnnxGraph, layer: Pooling, x: Value) -> str:
    """Write MaxPool or AveragePool with the far padding that makes Caffe's output size."""
    if layer.top_count == 2:
        raise layer.error("the second top, indices of maxima, has no ONNX form", expected="one top")
    if layer.method == "STOCHASTIC":
        # TEST weighs the activations by themselves; sums are averages times the window's size.
        total = _pool(graph, layer, x.name, x, "SUM")
        squares = _pool(graph, layer, graph.node("Mul", x, x), x, "SUM")
        active = graph.node("Greater", total, graph.constant(0))
        return graph.node("Where", active, graph.node("Div", squares, total), graph.constant(0))
    return _pool(graph, layer, x.name, x, layer.method)


def _pool(graph: OnnxGraph, layer: Pooling, name: str, x: Value, method: str) -> str:
    """Pool the value `name` of x's shape; SUM divides all windows alike."""
    op = "MaxPool" if method == "MAX" else "AveragePool"
    if layer.kernel is None:
        return graph.node("Global" + op, name)
    far = [_far_padding(layer, axis) for axis in (0, 1)]
    pads = [*layer.pad, *(p + extra for p, extra in zip(layer.pad, far, strict=True))]
    if any(pad >= kernel for pad, kernel in zip(pads[2:], layer.kernel, strict=True)):
        # Windows outside the input: runtimes refuse padding as large as the kernel.
        name = _padded(graph, name, pads, _LOWEST if method == "MAX" else 0)
        pads = [0] * 4
    counted = {} if method == "MAX" else {"count_include_pad": 1}
    y = graph.node(op, name, kernel_shape=layer.kernel, strides=layer.stride, pads=pads, **counted)
    if method != "AVE" or far == [0, 0]:
        return y
    return graph.node("Div", y, _counted_share(graph, layer, x, far))


def _far_padding(layer: Pooling, axis: int) -> int:
    """Return what to pad behind the padding so that sizes rounded down are Caffe's.

    Caffe's are rounded up; with padding, a window that would start beyond input and near padding is
    dropped, which a smaller far padding does for every input size.
    """
    assert layer.kernel is not None
    extra = layer.stride[axis] - 1
    if max(layer.pad) > 0:
        extra = min(extra, layer.kernel[axis] - layer.pad[axis] - 1)
    return extra


def _padded(graph: OnnxGraph, name: str, pads: Sequence[int], value: float) -> str:
    ends = [0, 0, *pads[:2], 0, 0, *pads[2:]]
    return graph.node("Pad", name, graph.integers(ends), graph.constant(value))


def _counted_share(graph: OnnxGraph, layer: Pooling, x: Value, far: Sequence[int]) -> str:
    """Return, for each window, which share of it lies within the padded input: AVE's divisor."""
    assert layer.kernel is not None
    height, width = x.shape[2:]
    if height is not None and width is not None:
        rows, columns = (
            _axis_share(size, layer.kernel[axis], layer.stride[axis], layer.pad[axis], far[axis])
            for axis, size in enumerate((height, width))
        )
        return graph.constant(np.outer(rows, columns)[None, None])
    one = graph.onnx.numpy_helper.from_array(np.ones(1, np.float32))
    # Of x's whole shape: OpenCV 5 pools in blocks of channels, which it then cannot broadcast.
    ones = graph.node("ConstantOfShape", graph.node("Shape", x), value=one)
    ones = _padded(graph, ones, layer.pad * 2, 1)
    ones = _padded(graph, ones, [0, 0, *far], 0)
    return graph.node("AveragePool", ones, kernel_shape=layer.kernel, strides=layer.stride)


def _axis_share(size: int, kernel: int, stride: int, pad: int, far: int) -> np.ndarray:
    padded = size + 2 * pad
    starts = np.arange((padded + far - kernel) // stride + 1) * stride
    return (np.minimum(starts + kernel, padded) - starts) / kernel


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
        rows, top, bottom = _window(height, 2**level)
        columns, left, right = _window(width, 2**level)
        value = _LOWEST if layer.method == "MAX" else 0
        padded = _padded(graph, x.name, [top, left, bottom, right], value)
        op = "MaxPool" if layer.method == "MAX" else "AveragePool"
        window = [rows, columns]
        levels.append(graph.node(op, padded, kernel_shape=window, strides=window))
    if len(levels) == 1:
        return levels[0]
    return graph.node("Concat", *[graph.node("Flatten", y, axis=1) for y in levels], axis=1)


def _window(size: int, bins: int) -> tuple[int, int, int]:
    """Return the width of `bins` windows over `size` and the padding before and after."""
    width = -(-size // bins)
    missing = width * bins - size
    return width, (missing + 1) // 2, missing // 2


@onnx_layer("MVN")
def mvn(graph: OnnxGraph, layer: MVN, x: Value) -> str:
    """Write (x - mean) / (deviation + eps), by ReduceMean."""
    axes = list(range(layer.first_axis, len(x.shape)))
    if not axes:
        raise layer.error(f"a bottom of {len(x.shape)} axes has no ONNX form", expected="3 or more")
    centred = graph.node("Sub", x, graph.node("ReduceMean", x, axes=axes))
    if not layer.normalize_variance:
        return centred
    variance = graph.node("ReduceMean", graph.node("Mul", centred, centred), axes=axes)
    deviation = graph.node("Add", graph.node("Sqrt", variance), graph.constant(layer.eps))
    return graph.node("Div", centred, deviation)


@onnx_layer("Crop")
def crop(graph: OnnxGraph, layer: Crop, x: Value, sizes: Value) -> str:
    """Write Slice, up to the sizes of the second bottom."""
    offsets, axes = list(layer.offsets), list(range(layer.axis, len(x.shape)))
    wanted = sizes.shape[layer.axis : len(x.shape)]
    if None not in wanted:
        ends = graph.integers(
            [o + s for o, s in zip(offsets, wanted, strict=True) if s is not None]
        )
    else:
        shape = graph.node("Shape", sizes, start=layer.axis, end=len(x.shape))
        ends = graph.node("Add", shape, graph.integers(offsets))
    return graph.node("Slice", x, graph.integers(offsets), ends, graph.integers(axes))
