"""Which true box each prior stands for.

Source: MatchBBox of bbox_util.cpp in SSD's Caffe fork (SSD, section 2.2, "Matching strategy").
"""

from __future__ import annotations

import torch
from torch import Tensor

from sphereface.caffe.boxes import box_overlap

__all__ = ["IGNORED", "UNMATCHED", "match_boxes", "outside"]

UNMATCHED, IGNORED = -1, -2
_LEAST = 1e-6


def outside(box: Tensor) -> Tensor:
    """Return which boxes, in shares of the image, reach beyond it."""
    return ((box < 0) | (box > 1)).any(-1)


def match_boxes(
    box: Tensor, truth: Tensor, threshold: float, *, each: bool, ignore_outside: bool
) -> tuple[Tensor, Tensor]:
    """Return the true box of each box, and how much they overlap.

    First every true box takes the box that overlaps it most, the largest overlaps first.

    Parameters
    ----------
    box, truth : Tensor of shape (P, 4) and (G, 4)
    threshold : float
        Least overlap for the others.
    each : bool
        Give the others the true box that they overlap most.
    ignore_outside : bool
        Leave out boxes that reach beyond the image.

    Returns
    -------
    index : Tensor of int64, shape (P,)
        UNMATCHED for none, IGNORED for those left out.
    overlap : Tensor of shape (P,)
        With that true box; for the unmatched the largest overlap with any.
    """
    overlap = box_overlap(box[:, None], truth)
    overlap = torch.where(overlap > _LEAST, overlap, 0)
    index = torch.full((len(box),), UNMATCHED, device=box.device)
    if ignore_outside:
        left_out = outside(box)
        index[left_out] = IGNORED
        overlap[left_out] = 0
    best, nearest = overlap.max(1)
    free = overlap.clone()
    for _ in range(len(truth)):
        flat = int(free.argmax())
        row, column = divmod(flat, len(truth))
        if free[row, column] <= 0:
            break
        index[row], best[row] = column, overlap[row, column]
        free[row], free[:, column] = 0, 0
    if each:
        more = (index == UNMATCHED) & (best > 0) & (best >= threshold)
        index = torch.where(more, nearest, index)
    return index, best
