"""Resampling for MTCNN: the scales of the pyramid.

Source: imResample of Piotr Dollár's toolbox, which MTCNNv1 calls. Along each axis
separately: shrinking averages the pixels that an output pixel covers, with fractional ends; growing
is linear between pixel centres. What differs: an axis is a list of weights, so that both are matrix
products; the result is transposed as the nets want it, for they were trained in Matlab's order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["AxisWeights", "axis_weights", "pyramid_scales", "resample"]

CELL = 12  # pixels that P-Net sees
_DROPPED = 1e-3  # weights below this share of a full one are left out
_GUARD = 1 / (1 + 1e-6)  # the toolbox's, against rounding beyond 255


def pyramid_scales(height: int, width: int, min_size: float, factor: float) -> list[float]:
    """Return the scales at which P-Net looks, largest first; none if the picture is too small.

    Parameters
    ----------
    height, width : int
        Of the picture.
    min_size : float
        Side of the smallest face, in pixels.
    factor : float
        Between two scales, below 1.
    """
    first = CELL / min_size
    side = min(height, width) * first
    scales: list[float] = []
    while side >= CELL:
        scales.append(first * factor ** len(scales))
        side *= factor
    return scales


@dataclass(frozen=True, slots=True, eq=False)
class AxisWeights:
    """How the pixels of a resampled axis are made: output j sums its taps.

    Parameters
    ----------
    index : ndarray of int64
        Source pixel of every tap.
    offsets : ndarray of shape (outputs + 1,), int64
        Taps of output j are ``offsets[j]:offsets[j + 1]``.
    weight : ndarray of float64
        Of every tap.
    """

    index: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weight: NDArray[np.float64]

    def matrix(self, size: int) -> NDArray[np.float32]:
        """Return the weights as a dense matrix of shape (outputs, `size`)."""
        dense = np.zeros((len(self.offsets) - 1, size))
        rows = np.repeat(np.arange(len(dense)), np.diff(self.offsets))
        np.add.at(dense, (rows, self.index), self.weight)
        return dense.astype(np.float32)


@lru_cache(maxsize=512)
def axis_weights(size: int, new_size: int) -> AxisWeights:
    """Return the weights that resample an axis of `size` pixels to `new_size`."""
    ratio = size / new_size
    output = np.arange(new_size)[:, None]
    if size > new_size:
        start, end = output * ratio, output * ratio + ratio
        tap = np.floor(start).astype(np.int64) + np.arange(math.floor(ratio) + 2)
        weight = (np.minimum(end, tap + 1) - np.maximum(start, tap)) / ratio
        used = (weight > _DROPPED / ratio) & (tap < size)
        weight = np.where(used, weight, 0.0)
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    elif size < new_size:
        centre = np.clip((output + 0.5) * ratio - 0.5, 0, size - 1)
        tap = np.minimum(np.floor(centre).astype(np.int64), size - 1) + np.arange(2)
        weight = 1 - np.abs(centre - tap)
        used = weight > 0
    else:
        tap, weight = output, np.ones_like(output, np.float64)
        used = weight > 0
    offsets = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int64)
    return AxisWeights(tap[used].astype(np.int64), offsets, weight[used])


def resample(
    image: Tensor, height: int, width: int, start: int = 0, stop: int | None = None
) -> Tensor:
    """Return a level of the pyramid as P-Net wants it.

    Parameters
    ----------
    image : Tensor of shape (H, W, 3)
        uint8 or float32, RGB.
    height, width : int
        Of the level.
    start, stop : int
        Columns of the level that are wanted; all by default.

    Returns
    -------
    Tensor of shape (1, 3, stop - start, height), float32
        Transposed, (grey level - 127.5) / 128.
    """
    rows = axis_weights(image.shape[0], height)
    columns = axis_weights(image.shape[1], width)
    stop = width if stop is None else stop
    taps = slice(columns.offsets[start], columns.offsets[stop])
    index = columns.index[taps]
    first, last = int(index[0]), int(index[-1]) + 1
    columns = AxisWeights(
        index - first, columns.offsets[start : stop + 1] - taps.start, columns.weight[taps]
    )
    pixels = image[:, first:last].to(torch.float32).reshape(len(image), -1)  # (H, w 3)
    pixels = _apply(rows, pixels)
    pixels = pixels.view(height, last - first, -1).transpose(0, 1)
    level = _apply(columns, pixels.reshape(last - first, -1))  # (width, height 3)
    return normalised(level.view(1, stop - start, height, -1))


def _apply(axis: AxisWeights, pixels: Tensor) -> Tensor:
    index, offsets = (torch.from_numpy(a).to(pixels.device) for a in (axis.index, axis.offsets))
    weight = torch.from_numpy(axis.weight.astype(np.float32)).to(pixels.device)
    return F.embedding_bag(
        index, pixels, offsets, mode="sum", per_sample_weights=weight, include_last_offset=True
    )


def normalised(pixels: Tensor) -> Tensor:
    """Return (N, W, H, 3) of grey levels, which change, as what the nets see, (N, 3, W, H)."""
    return pixels.mul_(_GUARD / 128).sub_(127.5 / 128).permute(0, 3, 1, 2)
