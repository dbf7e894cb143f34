"""DecodeBBox: the regions that a stage of a cascade moves its regions to.

Source: decode_bbox_layer.cpp and bbox_util.cpp of Cascade R-CNN's Caffe fork (Cai and Vasconcelos,
CVPR 2018, section 4). What differs: nothing. With TRAIN the number of regions is a value:
torch.compile breaks the graph there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.box_offsets import offset_units
from sphereface.caffe.boxes import decode_boxes
from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["DecodeBBox", "decode_bbox"]


def decode_bbox(
    offset: Tensor,
    region: Tensor,
    *truth: Tensor,
    means: tuple[float, ...],
    deviations: tuple[float, ...],
    most_overlap: float,
    training: bool,
) -> Tensor:
    """Return the regions (R, 5, 1, 1) at the offsets of class 1."""
    own, region = offset.detach().flatten(1)[:, 4:], region.detach().flatten(1)
    own = own * own.new_tensor(deviations) + own.new_tensor(means)
    box = decode_boxes(own, region[:, 1:], None, "CENTER_SIZE", 1.0)
    box = box - box.new_tensor((0.0, 0.0, 1.0, 1.0))  # the last row and column are inside
    found = torch.cat([region[:, :1], box], 1)
    if training:
        kept = (box[:, 2:] >= box[:, :2]).all(1)
        if truth:
            (match,) = truth
            match = match.detach().reshape(match.shape[0], prod(match.shape[1:]))
            kept = kept & (match[:, -1] < most_overlap)
        found = found[kept]
    return found[:, :, None, None]


@register_layer("DecodeBBox", param="decode_bbox_param")
class DecodeBBox(Layer):
    """Regions moved by the offsets that were found for them.

    Bottoms: offsets (R, 8) of two classes, background and object, of which the object's count, in
    units of ``bbox_reg_param``: of the centre in sizes of the region, and logarithms of sizes;
    regions (R, 5), number of the image, x1, y1, x2, y2, the last inside; with TRAIN optionally the
    boxes that they match (R, G), whose last value is the overlap. Top: regions (R, 5, 1, 1). In
    TRAIN those whose corners are exchanged are left out, and those that overlap by
    ``decode_bbox_param.gt_iou_thr`` or more. Nothing has a gradient.
    """

    bottoms = Arity(2, 3)
    function = staticmethod(decode_bbox)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the units of the offsets."""
        self.means, self.deviations = offset_units(self)
        self.most_overlap = self.options.gt_iou_thr

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms; promise as many rows as there may be."""
        offset, region = bottom_shapes[:2]
        rows = offset[:1]
        if (
            prod(offset[1:]) != 8
            or prod(region[1:]) != 5
            or {shape[:1] for shape in bottom_shapes} != {rows}
        ):
            raise self.error(
                f"bottoms of shapes {', '.join(map(str, bottom_shapes))}",
                expected="offsets (R, 8), regions (R, 5) and, with TRAIN, boxes (R, G)",
            )
        if len(bottom_shapes) == 3 and not self.training:
            raise self.error("3 bottoms with TEST", expected="offsets and regions")
        return [(rows[0], 5, 1, 1)]
