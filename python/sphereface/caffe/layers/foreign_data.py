"""Data layers of forks whose records nothing here reads: inputs that a program gives.

Source: BoxData is YOLO's (yeahkun's and choasup's forks), ImageGtData MS-CNN's, DetectionData
Cascade R-CNN's, CPMData OpenPose's, DataHeatmap Pfister's, HeatmapData RMPE's. What differs: their
own parameters are read past, and shapes come from `input_shapes`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.data_sources import DataSource
from sphereface.caffe.registry import register_layer

__all__ = ["ForeignData"]


@register_layer("BoxData", param="data_param")
@register_layer("CPMData", param="data_param")
@register_layer("DataHeatmap", param="data_param")
@register_layer("DetectionData", param="data_param")
@register_layer("HeatmapData", param="data_param")
@register_layer("ImageGtData", param="data_param")
class ForeignData(DataSource):
    """Pictures and what is to be found in them, in as many tops as the file has."""

    tops = at_least(1)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return that no shape is told."""
        return [None] * self.top_count

    def likely_shape(self) -> Shape | None:
        """Return that there is none."""
        return None
