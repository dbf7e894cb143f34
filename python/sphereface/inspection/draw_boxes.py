"""Boxes drawn into a picture, with what they are and how sure the net is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface import extras
from sphereface.inference import Box

__all__ = ["draw_boxes", "label_text"]

# BGR; a class has the colour of its number.
_COLOURS = (
    (60, 60, 230), (60, 180, 60), (230, 130, 40), (40, 170, 240), (200, 70, 200), (180, 180, 40),
)  # fmt: skip
_SHORT_SIDE = 300


def label_text(box: Box, labels: Mapping[int, str]) -> str:
    """Return the name of the box's class, or its number, and the score."""
    return f"{labels.get(box.label, str(box.label))} {box.score:.4f}"


def draw_boxes(
    image: NDArray[np.uint8], boxes: Iterable[Box], labels: Mapping[int, str]
) -> NDArray[np.uint8]:
    """Return a BGR picture (H, W, 3) with the boxes in it."""
    cv2: Any = extras.require("cv2", "data")
    drawn = np.ascontiguousarray(image)
    drawn = drawn.copy() if drawn is image else drawn
    size = max(min(image.shape[:2]) / _SHORT_SIDE, 1)
    thick = round(size)
    for box in boxes:
        colour = _COLOURS[box.label % len(_COLOURS)]
        # Corners are borders of pixels, OpenCV's points are their centres.
        x1, y1, x2, y2 = (round(value - 0.5) for value in box.corners)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), colour, thick, cv2.LINE_AA)
        place = (max(x1, 0), max(y1 - 2 * thick, round(12 * size)))
        text = label_text(box, labels)
        cv2.putText(
            drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * size, colour, thick, cv2.LINE_AA
        )
    return drawn
