"""Boxes of MTCNN: suppression, regression, squares.

Source: nms.m, bbreg.m, rerec.m and generateBoundingBox.m of MTCNNv1 (Zhang et al. 2016). Boxes are
x1, y1, x2, y2 in 1-based pixels with both ends inside, float64, as there. What differs: where one
single cell of a scale passes, the original reads its offsets through a map transposed once too
often, that is from another cell; here always from its own.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["cell_boxes", "regress", "squares", "suppress"]

Boxes = NDArray[np.float64]
_STRIDE, _CELL = 2, 12
_BLOCK = 256  # boxes that are compared at a time


def cell_boxes(x: NDArray[np.intp], y: NDArray[np.intp], scale: float) -> Boxes:
    """Return what P-Net's cells see of the picture.

    Parameters
    ----------
    x, y : ndarray of shape (K,)
        0-based cells of the map.
    scale : float
        Of the resampled picture that P-Net saw.

    Returns
    -------
    ndarray of shape (K, 4)
    """
    corner = _STRIDE * np.stack([x, y], axis=1).astype(np.float64)
    return np.trunc(np.hstack([corner + 1, corner + _CELL]) / scale)


def regress(boxes: Boxes, offsets: NDArray[np.float64], *, inclusive: bool) -> Boxes:
    """Return the boxes moved by a net's offsets.

    Parameters
    ----------
    boxes, offsets : ndarray of shape (K, 4)
        Offsets in widths and heights of the box.
    inclusive : bool
        Whether a width is x2 - x1 + 1 (R-Net, O-Net) or x2 - x1 (P-Net).
    """
    sides = boxes[:, 2:] - boxes[:, :2] + inclusive
    return boxes + offsets * np.hstack([sides, sides])


def squares(boxes: Boxes) -> Boxes:
    """Return squares of the longer side around the same centres, cut to whole pixels."""
    corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    side = sides.max(axis=1, keepdims=True)
    corner = corner + sides * 0.5 - side * 0.5
    return np.trunc(np.hstack([corner, corner + side]))


def suppress(
    boxes: Boxes,
    scores: NDArray[np.floating],
    threshold: float,
    measure: Literal["union", "min"] = "union",
) -> NDArray[np.intp]:
    """Keep the best of boxes that overlap by more than `threshold`.

    Parameters
    ----------
    boxes : ndarray of shape (K, 4)
    scores : ndarray of shape (K,)
        Of equal scores the last in the list goes first.
    threshold : float
    measure : {"union", "min"}
        What the intersection is divided by: the union, or the smaller box.

    Returns
    -------
    ndarray of intp
        Indices of the kept boxes, best first.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    kept: list[NDArray[np.intp]] = []
    while order.size:
        best, order = order[:_BLOCK], order[_BLOCK:]
        best = best[_greedy(_overlaps(boxes[best], boxes[best], measure) > threshold)]
        kept.append(best)
        if order.size:
            covered = _overlaps(boxes[best], boxes[order], measure) > threshold
            order = order[~covered.any(axis=0)]
    return np.concatenate([*kept, np.empty(0, np.intp)])


def _greedy(conflicts: NDArray[np.bool_]) -> list[int]:
    """Return the rows that no earlier kept row is in conflict with."""
    free = np.ones(len(conflicts), bool)
    kept = []
    for index in range(len(conflicts)):
        if free[index]:
            kept.append(index)
            free &= ~conflicts[index]
    return kept


def _overlaps(a: Boxes, b: Boxes, measure: Literal["union", "min"]) -> NDArray[np.float64]:
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    sides = np.maximum(high - low + 1, 0)  # (A, B, 2)
    shared = sides[:, :, 0] * sides[:, :, 1]
    areas, other = (np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1) for boxes in (a, b))
    if measure == "min":
        return shared / np.minimum(areas[:, None], other)
    return shared / (areas[:, None] + other - shared)
