"""Pooling as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sphereface.caffe.layers.pooling import LOWEST
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.pooling import Pooling

__all__ = ["padded", "pooling"]


@onnx_layer("Pooling")
def pooling(graph: OnnxGraph, layer: Pooling, x: Value) -> str | list[str]:
    """Write MaxPool or AveragePool with the far padding that makes Caffe's output size."""
    if layer.top_count == 2:
        return _maxima(graph, layer, x)
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
        name = padded(graph, name, pads, LOWEST if method == "MAX" else 0)
        pads = [0] * 4
    counted = {} if method == "MAX" else {"count_include_pad": 1}
    y = graph.node(op, name, kernel_shape=layer.kernel, strides=layer.stride, pads=pads, **counted)
    if method != "AVE" or far == [0, 0]:
        return y
    return graph.node("Div", y, _counted_share(graph, layer, x, far))


def _maxima(graph: OnnxGraph, layer: Pooling, x: Value) -> list[str]:
    """Write MaxPool with its second output, indices, which count on from image to image."""
    kernel = layer.kernel or [graph.fixed(size, layer) for size in x.shape[2:]]
    far = [_far_padding(layer, axis) if layer.kernel else 0 for axis in (0, 1)]
    pads = [*layer.pad, *(p + extra for p, extra in zip(layer.pad, far, strict=True))]
    if any(pad >= size for pad, size in zip(pads[2:], kernel, strict=True)):
        raise layer.error("indices of windows outside the image have no ONNX form")
    options = {"kernel_shape": kernel, "strides": layer.stride, "pads": pads}
    y, index = graph.split_node("MaxPool", x, outputs=2, **options)
    sizes = graph.node("Slice", graph.node("Shape", x), graph.integers([2]), graph.integers([4]))
    index = graph.node("Mod", index, graph.node("ReduceProd", sizes, keepdims=0))
    return [y, graph.node("Cast", index, to=graph.onnx.TensorProto.FLOAT)]


def _far_padding(layer: Pooling, axis: int) -> int:
    """Return what to pad behind the padding so that sizes rounded down are Caffe's.

    Caffe's are rounded up; with padding, a window that would start beyond input and near padding is
    dropped, which a smaller far padding does for every input size.
    """
    assert layer.kernel is not None
    if not layer.ceil_mode:
        return 0
    extra = layer.stride[axis] - 1
    if max(layer.pad) > 0:
        extra = min(extra, layer.kernel[axis] - layer.pad[axis] - 1)
    return extra


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
    ones = padded(graph, ones, layer.pad * 2, 1)
    ones = padded(graph, ones, [0, 0, *far], 0)
    return graph.node("AveragePool", ones, kernel_shape=layer.kernel, strides=layer.stride)


def _axis_share(size: int, kernel: int, stride: int, pad: int, far: int) -> np.ndarray:
    padded = size + 2 * pad
    starts = np.arange((padded + far - kernel) // stride + 1) * stride
    return (np.minimum(starts + kernel, padded) - starts) / kernel


def padded(graph: OnnxGraph, name: str, pads: Sequence[int], value: float) -> str:
    """Pad height and width by `value`: rows and columns before, rows and columns behind."""
    ends = [0, 0, *pads[:2], 0, 0, *pads[2:]]
    return graph.node("Pad", name, graph.integers(ends), graph.constant(value))
