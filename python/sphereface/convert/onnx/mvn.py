"""MVN as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.mvn import MVN

__all__ = ["mvn"]


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
