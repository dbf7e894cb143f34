"""Reshape as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.reshape import replaced_axes
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.reshape import Reshape

__all__ = ["reshape"]


@onnx_layer("Reshape")
def reshape(graph: OnnxGraph, layer: Reshape, x: Value) -> str:
    """Write Reshape; the one size that may change, if any, is inferred."""
    axes = len(x.shape)
    start, end = replaced_axes(axes, layer.axis, layer.num_axes)
    # (size, axis of the bottom that it is copied from)
    copied = [(x.shape[i], i) if dim == 0 else (dim, -1) for i, dim in enumerate(layer.dims, start)]
    sizes = (
        [(x.shape[i], i) for i in range(start)]
        + copied
        + [(x.shape[i], i) for i in range(end, axes)]
    )
    # In ONNX too 0 copies the size of the same axis; of the other free sizes one may be inferred.
    dims = [
        0 if size is None and source == axis else size for axis, (size, source) in enumerate(sizes)
    ]
    if None in dims and -1 not in dims:
        dims[dims.index(None)] = -1
    return graph.node("Reshape", x, graph.integers([graph.fixed(dim, layer) for dim in dims]))
