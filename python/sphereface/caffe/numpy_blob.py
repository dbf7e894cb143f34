"""pycaffe's Blob on numpy arrays of its own, for Python layer classes.

Source: Caffe's blob.hpp as python/caffe/_caffe.cpp shows it. What differs: arrays are float64 where
the net computes in it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["BlobVec", "NumpyBlob"]


class NumpyBlob:
    """Data and diff of one shape.

    Parameters
    ----------
    shape : tuple of int
        As in `reshape`.
    dtype : {numpy.float32, numpy.float64}
        Of both arrays.
    """

    def __init__(self, shape: tuple[int, ...] = (), dtype: Any = np.float32) -> None:
        self._shape: tuple[int, ...] = ()
        self._data = np.zeros(1, dtype)
        self._diff = np.zeros(1, dtype)
        self.reshape(*shape)

    def reshape(self, *shape: int) -> None:
        """Take another shape; values stay, in flat order, unless it needs more memory."""
        if any(size < 0 for size in shape):
            raise SphereFaceError(f"shape {shape}", where="reshape", expected="sizes >= 0")
        self._shape = tuple(int(size) for size in shape)
        if self.count > self._data.size:
            self._data = np.zeros(self.count, self._data.dtype)
            self._diff = np.zeros(self.count, self._data.dtype)

    def bind(self, data: NDArray[Any]) -> None:
        """Use a C-contiguous array as the data, without a copy, and zeros as the diff."""
        self._shape = data.shape
        self._data = data.reshape(-1)
        self._diff = np.zeros(data.size, data.dtype)

    @property
    def data(self) -> NDArray[Any]:
        """The values; writing into the array changes the blob."""
        return self._data[: self.count].reshape(self._shape)

    @property
    def diff(self) -> NDArray[Any]:
        """The gradient; writing into the array changes the blob."""
        return self._diff[: self.count].reshape(self._shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of all axes."""
        return self._shape

    @property
    def count(self) -> int:
        """The number of values."""
        return prod(self._shape)

    @property
    def num(self) -> int:
        """The size of axis 0 of a blob of at most 4 axes; 1 if there is none."""
        return self._legacy_size(0)

    @property
    def channels(self) -> int:
        """The size of axis 1 of a blob of at most 4 axes; 1 if there is none."""
        return self._legacy_size(1)

    @property
    def height(self) -> int:
        """The size of axis 2 of a blob of at most 4 axes; 1 if there is none."""
        return self._legacy_size(2)

    @property
    def width(self) -> int:
        """The size of axis 3 of a blob of at most 4 axes; 1 if there is none."""
        return self._legacy_size(3)

    def _legacy_size(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise SphereFaceError(
                f"num, channels, height and width of a blob of shape {self._shape}",
                expected="at most 4 axes",
                fix="use shape",
            )
        return self._shape[axis] if axis < len(self._shape) else 1


class BlobVec(list[NumpyBlob]):
    """A layer's parameter blobs."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros."""
        self.append(NumpyBlob(shape))
