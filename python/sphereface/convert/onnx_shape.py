"""ONNX nodes of the layers that move, join, cut, sort or sum up values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx_graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe import Layer
    from sphereface.caffe.layers.argmax import ArgMax
    from sphereface.caffe.layers.concat import Concat
    from sphereface.caffe.layers.flatten import Flatten
    from sphereface.caffe.layers.reduction import Reduction
    from sphereface.caffe.layers.reshape import Reshape
    from sphereface.caffe.layers.slice import Slice
    from sphereface.caffe.layers.softmax import Softmax
    from sphereface.caffe.layers.tile import Tile

__all__ = [
    "argmax", "batch_reindex", "concat", "flatten", "flip", "pass_on", "reduction", "reshape",
    "silence", "slice_", "softmax", "split", "tile",
]  # fmt: skip


@onnx_layer("Dropout", "LabelSpecificAdd", "LabelSpecificRescale")
def pass_on(graph: OnnxGraph, layer: Layer, x: Value, *labels: Value) -> str:
    """Write nothing: in TEST the top is the bottom."""
    return x.name


@onnx_layer("Split")
def split(graph: OnnxGraph, layer: Layer, x: Value) -> list[str]:
    """Write nothing: every top is the bottom."""
    return [x.name] * layer.top_count


@onnx_layer("Silence")
def silence(graph: OnnxGraph, layer: Layer, *bottoms: Value) -> list[str]:
    """Write nothing."""
    return []


@onnx_layer("Softmax")
def softmax(graph: OnnxGraph, layer: Softmax, x: Value) -> str:
    """Write Softmax."""
    return graph.node("Softmax", x, axis=layer.axis % len(x.shape))


@onnx_layer("Concat")
def concat(graph: OnnxGraph, layer: Concat, *bottoms: Value) -> str:
    """Write Concat."""
    return graph.node("Concat", *bottoms, axis=layer.axis % len(bottoms[0].shape))


@onnx_layer("Slice")
def slice_(graph: OnnxGraph, layer: Slice, x: Value) -> str | tuple[str, ...]:
    """Write Split, at the points of the file."""
    if layer.top_count == 1:
        return x.name
    axis = layer.axis % len(x.shape)
    size = x.shape[axis]
    if size is None:
        raise layer.error(f"cutting axis {axis}, whose size may change, has no ONNX form")
    return graph.split_node(
        "Split", x, graph.integers(layer._pieces(size)), outputs=layer.top_count, axis=axis
    )


@onnx_layer("Flatten")
def flatten(graph: OnnxGraph, layer: Flatten, x: Value) -> str:
    """Write Flatten, or Reshape to keep axes behind."""
    axes = len(x.shape)
    start, end = layer.axis % axes, layer.end_axis % axes
    if start == 1 and end == axes - 1:
        return graph.node("Flatten", x, axis=1)
    behind = [_size(layer, size) for size in x.shape[end + 1 :]]
    return graph.node("Reshape", x, graph.integers([0] * start + [-1] + behind))


@onnx_layer("Reshape")
def reshape(graph: OnnxGraph, layer: Reshape, x: Value) -> str:
    """Write Reshape; the one size that may change, if any, is inferred."""
    axes = len(x.shape)
    start, end = layer._range(axes)
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
    return graph.node("Reshape", x, graph.integers([_size(layer, dim) for dim in dims]))


def _size(layer: Layer, size: int | None) -> int:
    if size is None:
        raise layer.error("a size that may change on a moved axis has no ONNX form")
    return size


@onnx_layer("Tile")
def tile(graph: OnnxGraph, layer: Tile, x: Value) -> str:
    """Write Tile."""
    repeats = [1] * len(x.shape)
    repeats[layer.axis] = layer.tiles
    return graph.node("Tile", x, graph.integers(repeats))


@onnx_layer("Reduction")
def reduction(graph: OnnxGraph, layer: Reduction, x: Value) -> str:
    """Write ReduceSum or ReduceMean over the axes from `axis` on."""
    axes = list(range(layer.axis % len(x.shape), len(x.shape)))
    enum = layer.options.DESCRIPTOR.enum_types_by_name["ReductionOp"]
    operation = enum.values_by_number[layer.options.operation].name
    name = x.name
    if operation == "ASUM":
        name = graph.node("Abs", name)
    elif operation == "SUMSQ":
        name = graph.node("Mul", name, name)
    if operation == "MEAN":
        y = graph.node("ReduceMean", name, axes=axes, keepdims=0)
    else:
        y = graph.node("ReduceSum", name, graph.integers(axes), keepdims=0)
    return y if layer.coeff == 1 else graph.node("Mul", y, graph.constant(layer.coeff))


@onnx_layer("ArgMax")
def argmax(graph: OnnxGraph, layer: ArgMax, x: Value) -> str:
    """Write TopK of the reversed scores, because of equal ones the larger index comes first."""
    axis = 1 if layer.axis is None else layer.axis % len(x.shape)
    rows = graph.node("Flatten", x, axis=1) if layer.axis is None else x.name
    sizes = x.shape[1:] if layer.axis is None else x.shape[axis : axis + 1]
    count = 1
    for size in sizes:
        count *= _size(layer, size)
    backwards = graph.node("Gather", rows, graph.integers(range(count)[::-1]), axis=axis)
    values, places = graph.split_node(
        "TopK", backwards, graph.integers([layer.top_k]), outputs=2, axis=axis
    )
    places = graph.node("Cast", places, to=graph.onnx.TensorProto.FLOAT)
    indices = graph.node("Sub", graph.constant(count - 1), places)
    if layer.axis is not None:
        return values if layer.out_max_val else indices
    parts = [indices, values] if layer.out_max_val else [indices]
    joined = graph.node("Concat", *parts, axis=1) if layer.out_max_val else indices
    behind = [1] * max(len(x.shape) - 3, 0)
    shape = [-1, len(parts), layer.top_k, *behind]
    return graph.node("Reshape", joined, graph.integers(shape))


@onnx_layer("BatchReindex")
def batch_reindex(graph: OnnxGraph, layer: Layer, x: Value, indices: Value) -> str:
    """Write Gather along the batch."""
    index = graph.node("Cast", indices, to=graph.onnx.TensorProto.INT64)
    return graph.node("Gather", x, index, axis=0)


@onnx_layer("Flip")
def flip(graph: OnnxGraph, layer: Layer, x: Value) -> str:
    """Write Slice backwards along the width."""
    last = len(x.shape) - 1
    steps = [graph.integers([value]) for value in (-1, -(2**31), last, -1)]
    return graph.node("Slice", x, *steps)
