"""pycaffe's Blob: numpy views of data and diff, which torch computes in.

Source: Caffe's blob.hpp and syncedmem.cpp as python/caffe/_caffe.cpp shows them. On the CPU a
tensor is the numpy array's own memory. In GPU mode memory is copied where it is next used, and as
in Caffe it is the access to `data` or `diff` that says that the program may have written it. What
differs: arrays are float64 where the net of a Python layer computes in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sphereface.errors import SphereFaceError

__all__ = ["Blob", "BlobVec", "RawBlobVec", "SyncedMemory", "layout_version", "unchanged"]

_HOST = torch.device("cpu")
_layout = 0


def layout_version() -> int:
    """Return a number that is another one after a blob changed its shape or where its values are.

    While it stays the same, so do the tensors that blobs gave on the CPU.
    """
    return _layout


def _layout_changed() -> None:
    global _layout
    _layout += 1


class SyncedMemory:
    """A flat array on the host that never moves, and its copy on a device.

    Parameters
    ----------
    host : ndarray of one axis
        The values; used, not copied.
    """

    def __init__(self, host: NDArray[Any]) -> None:
        self._host = host
        self._copy: Tensor | None = None
        self._device = _HOST
        self._host_is_new, self._copy_is_new = True, False

    @property
    def size(self) -> int:
        """The number of values."""
        return self._host.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self._host.dtype

    def host(self) -> NDArray[Any]:
        """Return the array for reading and writing."""
        if self._copy_is_new and self._copy is not None:
            self._host[...] = self._copy.cpu().numpy()
        self._host_is_new, self._copy_is_new = True, False
        return self._host

    def tensor(self, device: torch.device, write: bool = False) -> Tensor:
        """Return the values on `device`; `write` if they are going to be written there."""
        if device == _HOST:
            return torch.from_numpy(self.host())
        _layout_changed()
        if self._copy is None or self._device != device:
            host = torch.from_numpy(self.host())
            self._copy = torch.empty(host.numel(), dtype=host.dtype, device=device)
            self._device = device
        if self._host_is_new:
            self._copy.copy_(torch.from_numpy(self._host))
            self._host_is_new = False
        self._copy_is_new = self._copy_is_new or write
        return self._copy.data  # a version counter of its own: what a program edits is its affair


@dataclass
class _State:
    """What a blob is at the moment; blobs that are one share it."""

    shape: tuple[int, ...]
    data: SyncedMemory
    diff: SyncedMemory

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        _layout_changed()

    def copy(self) -> _State:
        data, diff = (SyncedMemory(memory.host().copy()) for memory in (self.data, self.diff))
        return _State(self.shape, data, diff)


class Blob:
    """Data and diff of one shape.

    ``blob.data[...] = x`` is seen by the next forward, and a view that was taken earlier sees what
    a forward writes, until a `reshape` needs more memory.

    Parameters
    ----------
    shape : tuple of int
        As in `reshape`.
    dtype : {numpy.float32, numpy.float64}
        Of both arrays.
    """

    def __init__(self, shape: tuple[int, ...] = (), dtype: Any = np.float32) -> None:
        self._state = _State((), SyncedMemory(np.zeros(1, dtype)), SyncedMemory(np.zeros(1, dtype)))
        self.reshape(*shape)

    @classmethod
    def of(cls, tensor: Tensor) -> Blob:
        """Return a blob whose data are the memory of a tensor on the CPU."""
        blob = cls()
        blob.bind(tensor.detach().numpy())
        return blob

    def reshape(self, *shape: int) -> None:
        """Take another shape; values stay, in flat order, unless it needs more memory."""
        if shape == self._state.shape:
            return
        if any(size < 0 for size in shape):
            raise SphereFaceError(f"shape {shape}", where="reshape", expected="sizes >= 0")
        self._state.shape = tuple(int(size) for size in shape)
        if self.count > self._state.data.size:
            self._state.data = SyncedMemory(np.zeros(self.count, self.dtype))
        self._grow_diff()

    def bind(self, data: NDArray[Any]) -> None:
        """Use the memory of a C-contiguous array, its shape and its type."""
        state = self._state
        state.shape = data.shape
        held = state.data.host()
        if held.ctypes.data != data.ctypes.data or held.size != data.size:
            state.data = SyncedMemory(data.reshape(-1))
        self._grow_diff()

    def cast(self, dtype: Any) -> None:
        """Take values of another type."""
        if self.dtype != dtype:
            state = self._state
            state.data = SyncedMemory(state.data.host().astype(dtype))
            state.diff = SyncedMemory(state.diff.host().astype(dtype))

    def join(self, other: Blob) -> None:
        """Be the same blob as `other` from now on: shape, data and diff are one."""
        self._state = other._state
        _layout_changed()

    def share_data(self, other: Blob) -> None:
        """Take the shape of `other` and use its data."""
        if self._state.data is other._state.data and self._state.shape == other._state.shape:
            return
        self._state.shape = other._state.shape
        self._state.data = other._state.data
        self._grow_diff()

    def share_diff(self, other: Blob) -> None:
        """Use the diff of `other`, a blob of as many values."""
        self._state.diff = other._state.diff

    def _grow_diff(self) -> None:
        if self.count > self._state.diff.size or self._state.diff.dtype != self.dtype:
            self._state.diff = SyncedMemory(np.zeros(max(self.count, 1), self.dtype))

    # ---- values

    @property
    def data(self) -> NDArray[Any]:
        """The values; writing into the array changes the blob."""
        return self._shaped(self._state.data.host())

    @property
    def diff(self) -> NDArray[Any]:
        """The gradient; writing into the array changes the blob."""
        return self._shaped(self._state.diff.host())

    def data_tensor(self, device: torch.device, write: bool = False) -> Tensor:
        """Return the data in the blob's shape on `device`, for writing too with `write`."""
        return self._shaped(self._state.data.tensor(device, write))

    def diff_tensor(self, device: torch.device, write: bool = False) -> Tensor:
        """Return the diff in the blob's shape on `device`, for writing too with `write`."""
        return self._shaped(self._state.diff.tensor(device, write))

    def _shaped(self, flat: Any) -> Any:
        return flat[: self.count].reshape(self._state.shape)

    # ---- sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self._state.data.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of all axes."""
        return self._state.shape

    @property
    def count(self) -> int:
        """The number of values."""
        return prod(self._state.shape)

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
        shape = self._state.shape
        if len(shape) > 4:
            raise SphereFaceError(
                f"num, channels, height and width of a blob of shape {shape}",
                expected="at most 4 axes",
                fix="use shape",
            )
        return shape[axis] if axis < len(shape) else 1


class BlobVec(list[Blob]):
    """Blobs that belong to a net or a layer, such as a layer's parameters."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros."""
        self.append(Blob(shape))

    def __setitem__(self, index: Any, blob: Any) -> None:
        """Put another blob in place of one, for whoever uses this list to find."""
        super().__setitem__(index, blob)
        _layout_changed()


class RawBlobVec(list[Blob]):
    """Blobs that belong to others: the bottoms and tops of a layer."""


@contextmanager
def unchanged(blobs: Iterable[Blob]) -> Iterator[None]:
    """Give `blobs` copies of their memory inside the block, and their own back after it."""
    kept = [(blob, blob._state) for blob in blobs]
    copies = {id(state): state.copy() for _, state in kept}
    for blob, state in kept:
        blob._state = copies[id(state)]
    _layout_changed()
    try:
        yield
    finally:
        for blob, state in kept:
            blob._state = state
        _layout_changed()
