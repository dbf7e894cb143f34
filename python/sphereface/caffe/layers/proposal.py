"""Proposal: the regions that a region proposal network finds most likely to be objects.

Source: rpn/proposal_layer.py and generate_anchors.py of py-faster-rcnn (Ren et al., NIPS 2015),
with the options of the layer in C++ that OpenCV has. What differs: nothing. OpenCV's layer ignores
``min_size`` and fills its top with zeros up to ``post_nms_topn`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, prod, sqrt

import torch
from torch import Tensor

from sphereface.caffe.boxes import clip_boxes, decode_boxes, unsuppressed
from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import ValueLoop

__all__ = ["Proposal", "make_anchors", "proposal"]


def make_anchors(
    base: int, ratios: Sequence[float], scales: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    """Return the boxes around the first position: for each height / width, in each scale."""
    center = (base - 1) / 2
    anchors = []
    for ratio in ratios:
        width = floor(sqrt(base * base / ratio) + 0.5)
        height = floor(width * ratio + 0.5)
        for scale in scales:
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            anchors.append((center - x, center - y, center + x, center + y))
    return tuple(anchors)


def proposal(
    score: Tensor,
    offset: Tensor,
    info: Tensor,
    *,
    anchors: tuple[tuple[float, ...], ...],
    stride: int,
    min_size: float,
    pre_nms: int,
    post_nms: int,
    threshold: float,
    top_count: int,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return regions (R, 5), the image's number and corners; with two tops their scores too."""
    info = info.flatten()
    y = (torch.arange(score.shape[2], dtype=score.dtype, device=score.device) * stride)[
        :, None
    ].expand(score.shape[2:])
    x = (torch.arange(score.shape[3], dtype=score.dtype, device=score.device) * stride).expand(
        score.shape[2:]
    )
    anchor = torch.stack([x, y, x, y], 2)[:, :, None] + torch.tensor(
        anchors, dtype=score.dtype, device=score.device
    )
    moved = offset.permute(0, 2, 3, 1).reshape(-1, 4)
    box = decode_boxes(moved, anchor.reshape(-1, 4), None, "CENTER_SIZE", 1.0)
    box = clip_boxes(box, info[0] - 1, info[1] - 1)
    least = min_size * info[2] if len(info) > 2 else min_size
    large = (box[:, 2:] - box[:, :2] + 1 >= least).all(1)
    found = score[:, len(anchors) :].permute(0, 2, 3, 1).reshape(-1)[large]
    best = found.sort(descending=True, stable=True).indices[:pre_nms]
    box, found = box[large][best], found[best]
    valid = torch.ones_like(found, dtype=torch.bool)[None]
    kept = unsuppressed(box[None], valid, threshold, rim=1.0, most=post_nms)[0]
    region = torch.cat([torch.zeros_like(found[kept])[:, None], box[kept]], 1)
    return region if top_count == 1 else (region, found[kept][:, None])


@register_layer("Proposal", param="proposal_param")
class Proposal(ValueLoop):
    """Decode, clip, rank and suppress the boxes of a region proposal network, for one image.

    Bottoms: scores (1, 2 A, H, W), the objects' behind the background's; offsets (1, 4 A, H, W);
    ``im_info`` (1, 3): the image's height and width, and its scale, by which ``min_size`` is
    multiplied. A anchors: ``base_size`` in each ``ratio`` (0.5, 1, 2) and ``scale`` (8, 16, 32),
    ``feat_stride`` apart. Tops: regions (R, 5), the image's number (0), x1, y1, x2, y2; their
    scores (R, 1). At most ``post_nms_topn`` rows, which `reshape` promises. Nothing has a gradient.
    """

    bottoms = exactly(3)
    tops = Arity(1, 2)
    function = staticmethod(proposal)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Make the anchors."""
        options = self.options
        ratios, scales = tuple(options.ratio) or (0.5, 1, 2), tuple(options.scale) or (8, 16, 32)
        if min(*ratios, *scales, options.base_size, options.feat_stride) <= 0:
            raise self.error(
                f"base_size {options.base_size}, feat_stride {options.feat_stride},"
                f" ratio {ratios}, scale {scales}",
                expected="positive numbers",
            )
        self.anchors = make_anchors(options.base_size, ratios, scales)
        self.stride, self.min_size = options.feat_stride, options.min_size
        self.pre_nms, self.post_nms = options.pre_nms_topn, options.post_nms_topn
        self.threshold = options.nms_thresh

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of anchors; promise as many rows as there may be."""
        score, offset, info = bottom_shapes
        count = len(self.anchors)
        if (
            len(score) != 4
            or score[:2] != (1, 2 * count)
            or offset != (1, 4 * count, *score[2:])
            or prod(info) not in (2, 3)
        ):
            raise self.error(
                f"bottoms of shapes {score}, {offset} and {info}",
                expected=f"(1, {2 * count}, H, W), (1, {4 * count}, H, W) and (1, 3), for one"
                f" image and {count} anchors",
            )
        return [(self.post_nms, 5), (self.post_nms, 1)][: self.top_count]
