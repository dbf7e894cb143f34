"""What R-Net and O-Net see of a picture: boxes, resampled to one size.

Source: pad.m and detect_face.m of MTCNNv1. A box that leaves the picture sees grey level 0 there,
not the border's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.faces.mtcnn.pyramid import axis_weights

__all__ = ["cut"]

_COLUMNS = 1 << 20  # pixels of a box that are converted at a time
_CACHED_SIDE = 1024


def cut(
    image: NDArray[np.uint8 | np.float32],
    box: Sequence[int],
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
    x1, y1, x2, y2 = box
    left, top = max(x1, 1), max(y1, 1)
    right, bottom = min(x2, image.shape[1]), min(y2, image.shape[0])
    if left > right or top > bottom:
        out.fill(0)
        return
    rows, columns = _matrix(y2 - y1 + 1, size), _matrix(x2 - x1 + 1, size)
    rows = rows[:, top - y1 : bottom - y1 + 1]
    columns = columns[:, left - x1 : right - x1 + 1]
    pixels = image[top - 1 : bottom, left - 1 : right]
    step = max(_COLUMNS // len(pixels), 1)
    parts = [_rows_first(rows, pixels[:, at : at + step]) for at in range(0, len(columns.T), step)]
    part = parts[0] if len(parts) == 1 else np.concatenate(parts)
    np.matmul(columns, part, out=out.reshape(size, -1))


def _rows_first(rows: NDArray[np.float32], block: NDArray[Any]) -> NDArray[np.float32]:
    height, width, channels = block.shape
    part = rows @ block.astype(np.float32, copy=False).reshape(height, -1)  # (size, width 3)
    return part.reshape(-1, width, channels).swapaxes(0, 1).reshape(width, -1)


def _matrix(side: int, size: int) -> NDArray[np.float32]:
    return _cached(side, size) if side <= _CACHED_SIDE else _cached.__wrapped__(side, size)


@lru_cache(maxsize=512)
def _cached(side: int, size: int) -> NDArray[np.float32]:
    return axis_weights(side, size).matrix(side)
