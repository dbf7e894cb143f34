"""What SSD's DetectionOutput computes, box by box in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["detections", "overlap", "suppress"]


def overlap(a: Sequence[float], b: Sequence[float], rim: float = 0.0) -> float:
    """Return intersection over union of two boxes; rim is 1 where pixels are counted."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width < 0 or height < 0:
        return 0.0

    def area(box: Sequence[float]) -> float:
        if box[2] < box[0] or box[3] < box[1]:
            return 0.0
        return (box[2] - box[0] + rim) * (box[3] - box[1] + rim)

    common = (width + rim) * (height + rim)
    return common / (area(a) + area(b) - common) if common > 0 else 0.0


def suppress(
    boxes: Sequence[Sequence[float]], threshold: float, eta: float = 1.0, rim: float = 0.0
) -> list[int]:
    """Return which of the boxes, best first, are kept."""
    kept: list[int] = []
    for index, box in enumerate(boxes):
        if all(overlap(box, boxes[other], rim) <= threshold for other in kept):
            kept.append(index)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


def _decoded(prior, variance, offset, code_type, rim):
    x1, y1, x2, y2 = prior
    a, b, c, d = offset * variance
    width, height = x2 - x1 + rim, y2 - y1 + rim
    if code_type == "CORNER":
        return [x1 + a, y1 + b, x2 + c, y2 + d]
    if code_type == "CORNER_SIZE":
        return [x1 + a * width, y1 + b * height, x2 + c * width, y2 + d * height]
    x, y = x1 + width / 2 + a * width, y1 + height / 2 + b * height
    width, height = width * np.exp(c), height * np.exp(d)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def detections(
    location: np.ndarray,
    confidence: np.ndarray,
    prior: np.ndarray,
    *,
    classes: int,
    background: int = 0,
    share_location: bool = True,
    code_type: str = "CORNER",
    variance_in_target: bool = False,
    confidence_threshold: float = -np.inf,
    nms_threshold: float = 0.3,
    eta: float = 1.0,
    top_k: int = -1,
    keep_top_k: int = -1,
    clip: bool = False,
    rim: float = 0.0,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Return rows of image, label, score and box, by image, label and falling score."""
    rows = []
    boxes = prior[0, 0].reshape(-1, 4)
    variance = np.ones_like(boxes) if variance_in_target else prior[0, 1].reshape(-1, 4)
    height, width = limits or (1, 1)
    for image in range(len(location)):
        offsets = location[image].reshape(len(boxes), -1, 4)
        scores = confidence[image].reshape(len(boxes), classes)
        found = []
        for label in range(classes):
            if label == background:
                continue
            decoded = [
                _decoded(box, v, offset[0 if share_location else label], code_type, rim)
                for box, v, offset in zip(boxes, variance, offsets, strict=True)
            ]
            if clip:
                decoded = np.clip(decoded, 0, [width, height, width, height])
            passing = [p for p in range(len(boxes)) if scores[p, label] > confidence_threshold]
            passing.sort(key=lambda p: -scores[p, label])
            if top_k >= 0:
                passing = passing[:top_k]
            kept = suppress([decoded[p] for p in passing], nms_threshold, eta, rim)
            found += [
                [image, label, scores[p, label], *decoded[p]] for p in (passing[k] for k in kept)
            ]
        if keep_top_k >= 0:
            best = sorted(range(len(found)), key=lambda row: -found[row][2])[:keep_top_k]
            found = [found[row] for row in sorted(best)]
        rows += found
    return np.array(rows) if rows else np.array([[n] + [-1] * 6 for n in range(len(location))])
