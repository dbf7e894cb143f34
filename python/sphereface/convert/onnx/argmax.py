"""ArgMax as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.argmax import ArgMax

__all__ = ["argmax"]


@onnx_layer("ArgMax")
def argmax(graph: OnnxGraph, layer: ArgMax, x: Value) -> str:
    """Write TopK of the reversed scores, because of equal ones the larger index comes first."""
    axis = 1 if layer.axis is None else layer.axis % len(x.shape)
    rows = graph.node("Flatten", x, axis=1) if layer.axis is None else x.name
    sizes = x.shape[1:] if layer.axis is None else x.shape[axis : axis + 1]
    count = 1
    for size in sizes:
        count *= graph.fixed(size, layer)
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
