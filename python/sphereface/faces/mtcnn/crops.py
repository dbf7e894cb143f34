"""What R-Net and O-Net see of a picture: boxes, resampled to one size.

Source: pad.m and detect_face.m of MTCNNv1. A box that leaves the picture sees grey level 0 there,
not the border's pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sphereface.faces.mtcnn.pyramid import axis_weights

__all__ = ["cut"]

_COLUMNS = 1 << 20  # pixels of a box that are converted at a time
_CACHED_SIDE = 1024


def cut(
    image: NDArray[np.uint8 | np.float32],
    box: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Resample what a box sees.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3)
        RGB.
    box : ndarray of shape (4,)
        x1, y1, x2, y2 in whole 1-based pixels.
    out : ndarray of shape (size, size, 3), float32
        Receives grey levels, transposed: x first.
    """
    size = len(out)
    x1, y1, x2, y2 = (int(value) for value in box)
    left, top = max(x1, 1), max(y1, 1)
    right, bottom = min(x2, image.shape[1]), min(y2, image.shape[0])
    out[:] = 0
    if left > right or top > bottom:
        return
    rows = _matrix(y2 - y1 + 1, size)[:, top - y1 : bottom - y1 + 1]
    columns = _matrix(x2 - x1 + 1, size)[:, left - x1 : right - x1 + 1]
    step = max(_COLUMNS // (bottom - top + 1), 1)
    for begin in range(0, right - left + 1, step):
        block = image[top - 1 : bottom, left - 1 : right][:, begin : begin + step]
        height, width, channels = block.shape
        part = rows @ block.astype(np.float32, copy=False).reshape(height, -1)
        part = part.reshape(size, width, channels).swapaxes(0, 1).reshape(width, -1)
        out += (columns[:, begin : begin + width] @ part).reshape(size, size, channels)


def _matrix(side: int, size: int) -> NDArray[np.float32]:
    return _cached(side, size) if side <= _CACHED_SIDE else _cached.__wrapped__(side, size)


@lru_cache(maxsize=512)
def _cached(side: int, size: int) -> NDArray[np.float32]:
    return axis_weights(side, size).matrix(side)
