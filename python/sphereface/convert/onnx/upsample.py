"""Upsample and MaxUnpooling as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.upsample import Unpooled

__all__ = ["upsample"]


@onnx_layer("MaxUnpooling", "Unpooling", "Upsample")
def upsample(graph: OnnxGraph, layer: Unpooled, x: Value, *mask: Value) -> str:
    """Write Resize to the nearest, or ScatterElements into zeros."""
    if not mask:
        scales = graph.constant([1, 1, *layer.scale])
        nearest = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return graph.node("Resize", x, "", scales, **nearest)
    height, width = layer.sizes or (
        graph.fixed(size, layer) * scale + shift
        for size, scale, shift in zip(x.shape[2:], layer.scale, layer.shift, strict=True)
    )
    rows = graph.integers([0, 0, -1])
    place = graph.node("Cast", mask[0], to=graph.onnx.TensorProto.INT64)
    first = graph.node("Slice", graph.node("Shape", x), graph.integers([0]), graph.integers([2]))
    shape = graph.node("Concat", first, graph.integers([height * width]), axis=0)
    blank = graph.node("Expand", graph.constant(0), shape)
    flat = [graph.node("Reshape", value, rows) for value in (place, x)]
    filled = graph.node("ScatterElements", blank, *flat, axis=2)
    return graph.node("Reshape", filled, graph.integers([0, 0, height, width]))
