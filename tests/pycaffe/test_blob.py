from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.errors import SphereFaceError
from sphereface.pycaffe.blob import Blob, SyncedMemory

CPU = torch.device("cpu")


def test_data_and_tensor_are_the_same_memory():
    blob = Blob((2, 3))
    view = blob.data
    blob.data_tensor(CPU, write=True).fill_(4)
    np.testing.assert_array_equal(view, np.full((2, 3), 4))
    view[0, 1] = 7
    assert blob.data_tensor(CPU)[0, 1] == 7
    assert not blob.diff.any()
    assert blob.data.dtype == blob.diff.dtype == np.float32


def test_legacy_sizes():
    blob = Blob((2, 3, 4, 5))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 4, 5)
    assert (blob.count, list(blob.shape)) == (120, [2, 3, 4, 5])
    assert (Blob((6,)).channels, Blob().count, Blob().data.shape) == (1, 1, ())


def test_reshape_within_memory_keeps_views_and_values():
    blob = Blob((2, 6))
    blob.data[...] = np.arange(12).reshape(2, 6)
    view = blob.data
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, [[0, 1], [2, 3], [4, 5]])
    blob.data[0, 0] = 9
    assert view[0, 0] == 9


def test_growing_takes_new_memory_for_data_and_diff():
    blob = Blob((2,))
    blob.data[...] = blob.diff[...] = 1
    blob.reshape(5)
    assert not blob.data.any()
    assert blob.diff.shape == (5,)


def test_blob_of_a_tensor_writes_into_it():
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    blob = Blob.of(tensor)
    blob.data[1, 2] = -1
    assert tensor[1, 2] == -1


def test_shared_data_have_diffs_of_their_own():
    one, other = Blob((3, 2)), Blob((1,))
    other.share_data(one)
    one.data[...] = 3
    assert other.shape == (3, 2)
    assert other.data.all()
    other.diff[...] = 1
    assert not one.diff.any()
    other.share_diff(one)
    other.diff[...] = 2
    assert one.diff.all()


def test_wrong_shapes():
    with pytest.raises(SphereFaceError, match="sizes >= 0"):
        Blob((2,)).reshape(-1, 2)
    with pytest.raises(SphereFaceError, match="at most 4 axes"):
        _ = Blob((1, 1, 1, 1, 1)).num


def test_host_memory_never_moves_between_devices(device):
    device = torch.device(device)
    memory = SyncedMemory(np.arange(4, dtype=np.float32))
    host = memory.host()
    memory.tensor(device, write=True).mul_(2)
    assert memory.host() is host
    np.testing.assert_array_equal(host, [0, 2, 4, 6])
    memory.host()[0] = 5
    assert memory.tensor(device)[0] == 5
    assert memory.size == 4
