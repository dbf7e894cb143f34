"""What a detector finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["Face", "check_image"]

_CHANNELS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of a picture, in 0-based pixels: (0, 0) is the centre of the upper left one.

    Parameters
    ----------
    box : ndarray of shape (4,), float64
        x1, y1, x2, y2, the last two inside the box. It may leave the picture.
    score : float
        How sure the detector is, 0 to 1.
    landmarks : ndarray of shape (5, 2), float64, or None
        x and y of the left eye, right eye, nose, left and right corner of the mouth; left is the
        picture's left. None from detectors that have none.
    crop : ndarray of the template's shape, uint8, or None
        RGB; of `FaceAnalyzer`, as the embedding.
    embedding : ndarray of shape (K,), float32, or None
        Of length 1.
    """

    box: NDArray[np.float64]
    score: float
    landmarks: NDArray[np.float64] | None
    crop: NDArray[np.uint8] | None = None
    embedding: NDArray[np.float32] | None = None


def check_image(image: NDArray[np.uint8], *, gray: bool = False) -> None:
    """Refuse what is no 8-bit RGB picture of shape (H, W, 3), or with `gray` (H, W).

    Raises
    ------
    SphereFaceError
        The message gives the dtype and the shape found.
    """
    shape, dtype = np.shape(image), getattr(image, "dtype", type(image).__name__)
    color = len(shape) == _CHANNELS and shape[2] == _CHANNELS
    if dtype != np.uint8 or not (color or (gray and len(shape) == 2)) or 0 in shape:
        raise SphereFaceError(
            f"image of shape {shape}, {dtype}",
            expected=f"RGB of shape (H, W, 3){' or grey of (H, W)' if gray else ''}, uint8",
        )
