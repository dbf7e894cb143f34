"""pycaffe's Blob of a net: numpy views of data and diff, which torch computes in.

Source: Caffe's blob.hpp and syncedmem.cpp. On the CPU a tensor is the numpy array's own memory. In
GPU mode memory is copied where it is next used, and as in Caffe it is the access to `data` or
`diff` that says that the program may have written it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sphereface.caffe.numpy_blob import NumpyBlob

__all__ = ["Blob", "SyncedMemory"]

_HOST = torch.device("cpu")


class SyncedMemory:
    """A flat array on the host that never moves, and its copy on a device.

    Parameters
    ----------
    host : ndarray of one axis
        The values; used, not copied.
    """

    def __init__(self, host: NDArray[np.float32]) -> None:
        self._host = host
        self._copy: Tensor | None = None
        self._device = _HOST
        self._host_is_new, self._copy_is_new = True, False

    @property
    def size(self) -> int:
        """The number of values."""
        return self._host.size

    def host(self) -> NDArray[np.float32]:
        """Return the array for reading and writing."""
        if self._copy_is_new and self._copy is not None:
            self._host[...] = self._copy.cpu().numpy()
        self._host_is_new, self._copy_is_new = True, False
        return self._host

    def tensor(self, device: torch.device, write: bool = False) -> Tensor:
        """Return the values on `device`; `write` if they are going to be written there."""
        if device == _HOST:
            return torch.from_numpy(self.host())
        if self._copy is None or self._device != device:
            self._copy = torch.empty(self.host().size, device=device)
            self._device = device
        if self._host_is_new:
            self._copy.copy_(torch.from_numpy(self._host))
            self._host_is_new = False
        self._copy_is_new = self._copy_is_new or write
        return self._copy.data  # a version counter of its own: what a program edits is its affair


class Blob(NumpyBlob):
    """A blob of a net: `data`, `diff`, `shape`, `count`, `num` ... `width`, `reshape`.

    ``blob.data[...] = x`` is seen by the next forward, and a view that was taken earlier sees what
    a forward writes, until a `reshape` needs more memory.
    """

    _data_memory: SyncedMemory
    _diff_memory: SyncedMemory

    @classmethod
    def of(cls, tensor: Tensor) -> Blob:
        """Return a blob whose data are the memory of a float32 tensor on the CPU."""
        blob = cls()
        blob.bind(tensor.detach().numpy())
        return blob

    def reshape(self, *shape: int) -> None:
        """Take another shape; values stay, in flat order, unless it needs more memory."""
        if shape != self._shape:
            super().reshape(*shape)

    def share_data(self, other: Blob) -> None:
        """Take the shape of `other` and use its data."""
        self._shape = other._shape
        self._data_memory = other._data_memory
        if self._diff_memory.size < self._data_memory.size:
            self._diff = np.zeros(self._data_memory.size, np.float32)

    def share_diff(self, other: Blob) -> None:
        """Use the diff of `other`, a blob of as many values."""
        self._diff_memory = other._diff_memory

    def data_tensor(self, device: torch.device, write: bool = False) -> Tensor:
        """Return the data in the blob's shape on `device`, for writing too with `write`."""
        return self._shaped(self._data_memory.tensor(device, write))

    def diff_tensor(self, device: torch.device, write: bool = False) -> Tensor:
        """Return the diff in the blob's shape on `device`, for writing too with `write`."""
        return self._shaped(self._diff_memory.tensor(device, write))

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat[: prod(self._shape)].view(self._shape)

    # What NumpyBlob keeps in arrays of its own lies in synced memory here.

    @property
    def _data(self) -> Any:
        return self._data_memory.host()

    @_data.setter
    def _data(self, flat: NDArray[np.float32]) -> None:
        self._data_memory = SyncedMemory(flat)

    @property
    def _diff(self) -> Any:
        return self._diff_memory.host()

    @_diff.setter
    def _diff(self, flat: NDArray[np.float32]) -> None:
        self._diff_memory = SyncedMemory(flat)
