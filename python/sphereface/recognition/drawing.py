"""People drawn into a picture: a box and a name each, a colour a person."""

from __future__ import annotations

import colorsys
import unicodedata
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sphereface.extras import require

if TYPE_CHECKING:
    from sphereface.recognition.identification import Person

__all__ = ["colour_of", "draw_people"]

_STRANGER = (150, 150, 150)
_SHORT_SIDE = 300


def colour_of(name: str) -> tuple[int, int, int]:
    """Return the RGB colour of a name: the same in every picture and run."""
    hue = zlib.crc32(name.encode("utf-8", "replace")) / 2**32
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 0.9))
    return red, green, blue


def draw_people(image: NDArray[np.uint8], people: Iterable[Person]) -> NDArray[np.uint8]:
    """Return a copy of an RGB picture (H, W, 3) with boxes, names and cosines."""
    cv2: Any = require("cv2", "faces")
    drawn = np.array(image, order="C")
    size = max(min(image.shape[:2]) / _SHORT_SIDE, 1)
    thick, font = max(round(size), 1), cv2.FONT_HERSHEY_SIMPLEX
    for person in people:
        colour = _STRANGER if person.name is None else colour_of(person.name)
        x1, y1, x2, y2 = (round(float(value)) for value in person.face.box)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), colour, thick, cv2.LINE_AA)
        text = f"{_ascii(person.name or 'unknown')} {person.match.score:.2f}"
        (width, height), below = cv2.getTextSize(text, font, 0.4 * size, thick)
        left = min(max(x1, 0), max(image.shape[1] - width, 0))
        bottom = y1 - thick if y1 - height - below >= 0 else min(y2 + height + below, len(image))
        corner = (left, bottom - height - below)
        cv2.rectangle(drawn, corner, (left + width, bottom + thick), colour, -1)
        bright = sum(colour) > 3 * 128
        ink = (0, 0, 0) if bright else (255, 255, 255)
        place = (left, bottom - below // 2)
        cv2.putText(drawn, text, place, font, 0.4 * size, ink, thick, cv2.LINE_AA)
    return drawn


def _ascii(name: str) -> str:
    """Return a name in the letters that OpenCV's fonts have."""
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()
