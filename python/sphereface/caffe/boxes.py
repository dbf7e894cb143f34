"""Boxes as tensors of corners: offsets to priors, overlaps, suppression of what overlaps.

Source: bbox_util.cpp of SSD's Caffe fork. A box is xmin, ymin, xmax, ymax on the last axis; `rim`
is 0 for boxes in shares of the image, and 1 for boxes in pixels, whose last row and column are
inside.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["box_area", "box_overlap", "clip_boxes", "decode_boxes", "encode_boxes", "unsuppressed"]

_ADAPTIVE_ABOVE = 0.5


def decode_boxes(
    offset: Tensor, prior: Tensor, variance: Tensor | None, code_type: str, rim: float = 0.0
) -> Tensor:
    """Return the boxes that lie at `offset` from `prior`.

    Parameters
    ----------
    offset, prior, variance : Tensor of shape (..., 4)
        Without `variance` the offsets contain it.
    code_type : {"CORNER", "CENTER_SIZE", "CORNER_SIZE"}
        Offsets of corners; of the centre in sizes of the prior, and logarithms of sizes; of
        corners in sizes of the prior.
    """
    if variance is not None:
        offset = offset * variance
    if code_type == "CORNER":
        return prior + offset
    size = prior[..., 2:] - prior[..., :2] + rim
    if code_type == "CORNER_SIZE":
        return prior + offset * torch.cat([size, size], -1)
    center = prior[..., :2] + size / 2 + offset[..., :2] * size
    half = offset[..., 2:].exp() * size / 2
    return torch.cat([center - half, center + half], -1)


def encode_boxes(box: Tensor, prior: Tensor, variance: Tensor | None, code_type: str) -> Tensor:
    """Return the offsets of `box` from `prior`; the inverse of `decode_boxes`."""
    if code_type == "CORNER":
        offset = box - prior
    else:
        size = prior[..., 2:] - prior[..., :2]
        if code_type == "CORNER_SIZE":
            offset = (box - prior) / torch.cat([size, size], -1)
        else:
            moved = (box[..., :2] + box[..., 2:] - prior[..., :2] - prior[..., 2:]) / 2 / size
            offset = torch.cat([moved, ((box[..., 2:] - box[..., :2]) / size).log()], -1)
    return offset if variance is None else offset / variance


def clip_boxes(box: Tensor, height: float | Tensor, width: float | Tensor) -> Tensor:
    """Return boxes whose corners are moved into 0 to `width` and 0 to `height`."""
    limits = [torch.as_tensor(v, dtype=box.dtype, device=box.device) for v in (width, height)]
    return box.clamp(min=0).minimum(torch.stack(limits * 2))


def box_area(box: Tensor, rim: float = 0.0) -> Tensor:
    """Return the areas, 0 for boxes whose corners are exchanged."""
    size = box[..., 2:] - box[..., :2]
    return torch.where((size < 0).any(-1), 0, (size + rim).prod(-1))


def box_overlap(a: Tensor, b: Tensor, rim: float = 0.0) -> Tensor:
    """Return intersection over union; shapes are broadcast."""
    size = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    common = torch.where((size < 0).any(-1), 0, (size + rim).prod(-1))
    union = box_area(a, rim) + box_area(b, rim) - common
    return torch.where(common > 0, common / union, 0)


def unsuppressed(
    box: Tensor,
    valid: Tensor,
    threshold: float,
    *,
    eta: float = 1.0,
    rim: float = 0.0,
    most: int | None = None,
) -> Tensor:
    """Return which boxes greedy suppression keeps, in each group by itself.

    A box goes if it overlaps one that is kept, and comes before it, by more than the threshold.

    Parameters
    ----------
    box : Tensor of shape (groups, count, 4)
        Best first.
    valid : Tensor of bool, shape (groups, count)
        Which take part.
    threshold : float
        Overlap that is still allowed.
    eta : float
        Below 1 the threshold is multiplied by it with each box that is kept, while above 0.5.
    most : int, optional
        Boxes to keep of a group.

    Returns
    -------
    Tensor of bool, shape (groups, count)
    """
    group = torch.arange(box.shape[0], device=box.device)
    kept, waiting = torch.zeros_like(valid), valid.clone()
    limit = torch.full((box.shape[0], 1), threshold, dtype=box.dtype, device=box.device)
    # One array a side: what follows runs once for each box that is kept.
    left, top, right, bottom = (side.contiguous() for side in box.unbind(2))
    area = box_area(box, rim)
    worst = torch.zeros_like(area)
    for _ in range(box.shape[1] if most is None else min(most, box.shape[1])):
        first = waiting.to(torch.uint8).argmax(1)
        found = waiting[group, first]
        if not found.any():
            break
        kept[group, first] |= found
        waiting[group, first] = False
        best = [side[group, first][:, None] for side in (left, top, right, bottom, area)]
        width = right.minimum(best[2]) - left.maximum(best[0])
        height = bottom.minimum(best[3]) - top.maximum(best[1])
        common = (width + rim) * (height + rim)
        common = common.masked_fill_((width < 0) | (height < 0), 0)
        share = common / (area + best[4] - common)
        worst = worst.maximum(share.masked_fill_(common <= 0, 0))
        if eta < 1:
            limit = torch.where(limit > _ADAPTIVE_ABOVE, limit * eta, limit)
        waiting &= worst <= limit
    return kept
