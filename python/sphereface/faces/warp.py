"""A picture through a similarity, pixel by pixel.

Source: Matlab's imtransform with 'XData' and 'YData', as face_align_demo.m calls it: every pixel
of the crop looks up its place in the picture, bilinearly, in double precision, 0 outside. What
differs: nothing known but the blending within one pixel of the border, which here is with that 0.
OpenCV's warpAffine is faster, but before 5.0 rounds the places to 1/32 pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sphereface.faces.face import check_image

__all__ = ["warp"]


def warp(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], height: int, width: int
) -> NDArray[np.uint8]:
    """Return the crop that `matrix` maps the picture to.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3) or (H, W), uint8
    matrix : ndarray of shape (2, 3), float64
        From the picture's 0-based pixels to the crop's, as `fit_similarity` gives it.
    height, width : int
        Size of the crop.

    Returns
    -------
    ndarray of shape (height, width, 3) or (height, width), uint8
    """
    check_image(image, gray=True)
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))
    x, y = np.arange(width), np.arange(height)[:, None]
    u, v = (row[0] * x + row[1] * y + row[2] for row in inverse[:2])  # (height, width)
    # Places so far outside that all four neighbours are: kept where the integers are small.
    u, v = np.clip(u, -2.0, image.shape[1] + 1.0), np.clip(v, -2.0, image.shape[0] + 1.0)
    left, top = np.floor(u), np.floor(v)
    across, down = u - left, v - top
    columns = _taps(left.astype(np.intp), across, image.shape[1])
    pixels = image.reshape(image.shape[0] * image.shape[1], -1)  # (H W, C)
    total = np.zeros((height * width, pixels.shape[1]))
    for row, row_weight in _taps(top.astype(np.intp), down, image.shape[0]):
        for column, column_weight in columns:
            taken = pixels.take((row * image.shape[1] + column).ravel(), axis=0)
            total += taken * (row_weight * column_weight).reshape(-1, 1)
    total += 0.5  # whole part: rounded, halves up
    return total.astype(np.uint8).reshape(height, width, *image.shape[2:])


def _taps(
    first: NDArray[np.intp], fraction: NDArray[np.float64], size: int
) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    # Index and weight of the two neighbours along one axis; outside the picture the weight is 0.
    return [
        (np.clip(index, 0, size - 1), np.where((index >= 0) & (index < size), weight, 0.0))
        for index, weight in ((first, 1 - fraction), (first + 1, fraction))
    ]
