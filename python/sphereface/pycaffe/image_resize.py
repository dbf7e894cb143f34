"""``caffe.io.resize_image`` with the numbers of the scikit-image that pycaffe used.

Source: python/caffe/io.py over skimage.transform.resize(mode="constant") and scipy.ndimage.zoom.
Images of 1 or 3 channels: pixel centres are mapped on pixel centres, what lies outside counts as
the image's minimum (borders of enlarged images fade to it) and nothing is smoothed before an image
shrinks, which scikit-image does by default since 0.15. Other images: corners on corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["resize_image"]

Floats = NDArray[np.floating[Any]]


def resize_image(
    im: NDArray[Any], new_dims: Sequence[int] | NDArray[Any], interp_order: int = 1
) -> NDArray[np.float32]:
    """Resize an image.

    Parameters
    ----------
    im : ndarray of shape (H, W, K)
        The image, of any range.
    new_dims : sequence of int
        (height, width).
    interp_order : {0, 1, 3}
        Nearest, linear or (for 1 or 3 channels) cubic.

    Returns
    -------
    ndarray of shape (height, width, K)
        Values of the range of `im`.
    """
    height, width = (int(size) for size in new_dims)
    centred = im.shape[-1] in (1, 3)
    if im.ndim != 3 or interp_order not in ((0, 1, 3) if centred else (0, 1)):
        raise SphereFaceError(
            f"an image of shape {im.shape}, interp_order {interp_order}",
            where="resize_image",
            expected="(H, W, K) and the order 0, 1 or (if K is 1 or 3) 3",
        )
    low, high = float(im.min()), float(im.max())
    if high == low:
        return np.full((height, width, im.shape[-1]), low, np.float32)
    result = (im - low) / (high - low) if centred else im
    for axis, size in ((0, height), (1, width)):
        positions = _centred(size, im.shape[axis]) if centred else _cornered(size, im.shape[axis])
        result = _interpolate(result, axis, positions, interp_order)
    if centred:
        result = result.clip(0, 1) * (high - low) + low
    return result.astype(np.float32)


def _centred(size: int, old: int) -> Floats:
    return (np.arange(size) + 0.5) * (old / size) - 0.5


def _cornered(size: int, old: int) -> Floats:
    return np.linspace(0, old - 1, size)


def _interpolate(array: NDArray[Any], axis: int, positions: Floats, order: int) -> Floats:
    """Return the values of `array` at `positions` along `axis`; outside it is 0."""
    first = np.floor(positions + (0.5 if order == 0 else 0)).astype(int)
    size = array.shape[axis]
    shape = [1] * array.ndim
    shape[axis] = -1
    total: Any = 0.0
    for offset, weight in _taps(positions - first, order):
        index = first + offset
        weight = np.where((index >= 0) & (index < size), weight, 0).reshape(shape)
        total = total + weight * array.take(index.clip(0, size - 1), axis)
    return total


def _taps(t: Floats, order: int) -> list[tuple[int, Any]]:
    """Return (neighbour, weight) for a position `t` beyond the pixel that is number 0."""
    if order == 0:
        return [(0, np.ones_like(t))]
    if order == 1:
        return [(0, 1 - t), (1, t)]
    return [  # the cubic convolution of Keys, 1981, a = -1/2
        (-1, ((2 - t) * t - 1) * t / 2),
        (0, ((3 * t - 5) * t * t + 2) / 2),
        (1, ((4 - 3 * t) * t + 1) * t / 2),
        (2, (t - 1) * t * t / 2),
    ]
