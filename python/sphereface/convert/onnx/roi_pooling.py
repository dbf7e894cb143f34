"""ROIPooling as an ONNX node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.roi_pooling import ROIPooling

__all__ = ["roi_pooling"]


@onnx_layer("ROIPooling")
def roi_pooling(graph: OnnxGraph, layer: ROIPooling, x: Value, region: Value) -> str:
    """Write MaxRoiPool."""
    rows = graph.node("Reshape", region, graph.integers([-1, 5]))
    if layer.pad_ratio:
        image, near, far = graph.split_node(
            "Split", rows, graph.integers([1, 2, 2]), outputs=3, axis=1
        )
        size = graph.node("Add", graph.node("Sub", far, near), graph.constant(1))
        margin = graph.node("Mul", size, graph.constant(layer.pad_ratio))
        near, far = graph.node("Sub", near, margin), graph.node("Add", far, margin)
        rows = graph.node("Concat", image, near, far, axis=1)
    options = {"pooled_shape": layer.pooled, "spatial_scale": layer.spatial_scale}
    return graph.node("MaxRoiPool", x, rows, **options)
