"""Where the five landmarks of a face go in its crop.

Source: face_align_demo.m of SphereFace (112 x 96); insightface's face_align.py. What differs: a
template is an object with its size, its pixels' base and its fit, because nets were trained on
different ones: SphereFace's count pixels from 1, as Matlab, and fit from the template to the
image; insightface took the same numbers 0-based, one pixel further, and fits the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError, nearest
from sphereface.faces.similarity import Fit

__all__ = ["TEMPLATES", "Template", "find_template"]

_POINTS = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A crop and the places of the landmarks in it.

    Parameters
    ----------
    name : str
    height, width : int
        Of the crop, in pixels.
    points : ndarray of shape (5, 2), float64
        x and y, counted from `base`.
    base : {0, 1}
        What the first pixel's centre is called.
    fit : {"inverse", "forward"}
        As in `fit_similarity`.
    """

    name: str
    height: int
    width: int
    points: NDArray[np.float64]
    base: int
    fit: Fit

    @property
    def pixels(self) -> NDArray[np.float64]:
        """The points in 0-based pixels, (5, 2)."""
        return self.points - self.base


def _template(
    name: str, size: tuple[int, int], shift: tuple[float, float], scale: float, base: int, fit: Fit
) -> Template:
    points = (np.array(_POINTS) + shift) * scale
    points.flags.writeable = False
    return Template(name, *size, points, base, fit)


TEMPLATES = {
    template.name: template
    for template in (
        _template("112x96", (112, 96), (0, 0), 1, 1, "inverse"),
        _template("112x112", (112, 112), (8, 0), 1, 1, "inverse"),
        _template("128x128", (128, 128), (16, 8), 1, 1, "inverse"),
        _template("arcface-112x112", (112, 112), (8, 0), 1, 0, "forward"),
        _template("arcface-128x128", (128, 128), (16, 0), 1, 0, "forward"),
        _template("arcface-224x224", (224, 224), (8, 0), 2, 0, "forward"),
    )
}


def find_template(name: str) -> Template:
    """Return the template of a name of `TEMPLATES`.

    Raises
    ------
    SphereFaceError
        There is none; the error lists them.
    """
    if name not in TEMPLATES:
        raise SphereFaceError(
            f'no template "{name}"',
            expected=f"one of {', '.join(TEMPLATES)}",
            fix=nearest(name, TEMPLATES),
        )
    return TEMPLATES[name]
