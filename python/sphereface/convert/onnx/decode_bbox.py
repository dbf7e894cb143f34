"""DecodeBBox as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.decode_bbox import DecodeBBox

__all__ = ["decode_bbox"]


@onnx_layer("DecodeBBox")
def decode_bbox(graph: OnnxGraph, layer: DecodeBBox, offset: Value, region: Value) -> str:
    """Write the decoding of class 1."""
    rows = graph.node("Reshape", offset, graph.integers([-1, 2, 4]))
    own = graph.node("Gather", rows, graph.integers(1), axis=1)
    own = graph.node("Mul", own, graph.constant(list(layer.deviations)))
    own = graph.node("Add", own, graph.constant(list(layer.means)))
    moved, grown = graph.split_node("Split", own, graph.integers([2, 2]), outputs=2, axis=1)
    rows = graph.node("Reshape", region, graph.integers([-1, 5]))
    image, near, far = graph.split_node("Split", rows, graph.integers([1, 2, 2]), outputs=3, axis=1)
    one, half = graph.constant(1), graph.constant(0.5)
    size = graph.node("Add", graph.node("Sub", far, near), one)
    center = graph.node("Mul", graph.node("Add", near, far), half)
    center = graph.node("Add", center, graph.node("Mul", moved, size))
    size = graph.node("Mul", graph.node("Exp", grown), size)
    reach = graph.node("Mul", graph.node("Sub", size, one), half)
    corners = [graph.node(op, center, reach) for op in ("Sub", "Add")]
    found = graph.node("Concat", image, *corners, axis=1)
    return graph.node("Reshape", found, graph.integers([-1, 5, 1, 1]))
