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
    options = {"pooled_shape": layer.pooled, "spatial_scale": layer.spatial_scale}
    return graph.node("MaxRoiPool", x, rows, **options)
