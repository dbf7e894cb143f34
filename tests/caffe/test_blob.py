from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe.blob import Blob, BlobVec, SyncedMemory, layout_version, unchanged
from sphereface.errors import SphereFaceError

CPU = torch.device("cpu")


def test_sizes():
    blob = Blob((2, 3, 4))
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 4, 1, 24)
    assert blob.shape == blob.data.shape == blob.diff.shape == (2, 3, 4)
    assert blob.data.dtype == blob.diff.dtype == np.float32
    assert Blob((2,), np.float64).data.dtype == np.float64
    with pytest.raises(SphereFaceError, match="at most 4 axes"):
        _ = Blob((1,) * 5).num


def test_writes_stay():
    blob = Blob((2, 2))
    blob.data[0] = 1
    blob.diff[...] = [[5, 6], [7, 8]]
    np.testing.assert_array_equal(blob.data, [[1, 1], [0, 0]])
    np.testing.assert_array_equal(blob.diff, [[5, 6], [7, 8]])


def test_values_survive_a_reshape_that_needs_no_memory():
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(4)
    np.testing.assert_array_equal(blob.data, [0, 1, 2, 3])
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, [[0, 1], [2, 3], [4, 5]])
    blob.reshape(7)
    np.testing.assert_array_equal(blob.data, np.zeros(7))
    assert blob.diff.shape == (7,)
    blob.reshape()
    assert blob.data.shape == ()
    blob.reshape(np.int64(0), 3)
    assert blob.data.shape == (0, 3)
    with pytest.raises(SphereFaceError, match=r"shape \(-1,\)"):
        blob.reshape(-1)


def test_bind_shares_memory():
    array, blob = np.arange(6.0).reshape(2, 3), Blob((1,))
    blob.bind(array)
    blob.data[1, 2] = 9
    assert array[1, 2] == 9
    assert blob.diff.shape == (2, 3)
    assert blob.diff.dtype == np.float64


def test_blob_vec():
    blobs = BlobVec()
    blobs.add_blob(2, 3)
    blobs.add_blob()
    assert [blob.shape for blob in blobs] == [(2, 3), ()]
    assert not blobs[0].data.any()


def test_data_and_tensor_are_the_same_memory():
    blob = Blob((2, 3))
    view = blob.data
    blob.data_tensor(CPU, write=True).fill_(4)
    np.testing.assert_array_equal(view, np.full((2, 3), 4))
    view[0, 1] = 7
    assert blob.data_tensor(CPU)[0, 1] == 7
    assert not blob.diff.any()
    assert blob.data.dtype == blob.diff.dtype == np.float32


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


def test_joined_blobs_are_one():
    one, other = Blob((2, 2)), Blob((3,))
    one.data[...] = 1
    other.join(one)
    other.data[0] = 5
    other.reshape(4, 2)
    other.diff[...] = 2
    assert one.shape == (4, 2)
    assert not one.data.any()  # both have the larger memory
    assert one.diff.all()


def test_unchanged():
    one, other, alone = Blob((2,)), Blob((2,)), Blob((2,))
    other.join(one)
    one.data[...] = alone.data[...] = 3
    view = one.data
    with unchanged([one, other]):
        assert one.data.tolist() == [3, 3]
        one.data[...] = alone.data[...] = 4
        other.reshape(7)
        assert one.shape == (7,)
    assert one.shape == other.shape == (2,)
    assert one.data.tolist() == other.data.tolist() == [3, 3]
    assert alone.data.tolist() == [4, 4]
    view[0] = 9
    assert other.data.tolist() == [9, 3]


def test_cast():
    blob = Blob((3,))
    blob.data[...], blob.diff[...] = 1, 2
    blob.cast(np.float64)
    assert blob.data.dtype == blob.diff.dtype == np.float64
    assert (blob.data + blob.diff).tolist() == [3, 3, 3]
    view = blob.data
    blob.cast(np.float64)
    view[0] = 7
    assert blob.data[0] == 7


def test_bound_memory_keeps_its_diff():
    array, blob = np.zeros((2, 3), np.float32), Blob((2, 3))
    blob.bind(array)
    blob.diff[...] = 5
    blob.bind(array.reshape(3, 2))
    assert blob.diff.shape == (3, 2)
    assert blob.diff.all()
    blob.bind(np.zeros((2, 3), np.float32))
    assert blob.diff.all()
    assert blob.data is not array


def test_the_layout_version_tells_changes_of_shape_and_memory():
    blob, other = Blob((2, 3)), Blob((3, 3))
    array = np.ones((2, 3), np.float32)
    for change, changes in [
        (lambda: blob.reshape(2, 3), False),
        (lambda: blob.data.fill(4), False),
        (lambda: blob.data_tensor(CPU, write=True), False),
        (lambda: blob.reshape(3, 2), True),
        (lambda: blob.reshape(4, 4), True),
        (lambda: blob.bind(array), True),
        (lambda: blob.cast(np.float64), True),
        (lambda: blob.cast(np.float64), False),
        (lambda: blob.share_data(other), True),
        (lambda: blob.share_data(other), False),
        (lambda: blob.share_diff(other), True),
        (lambda: blob.join(other), True),
    ]:
        before = layout_version()
        change()
        assert (layout_version() != before) is changes
    before = layout_version()
    with unchanged([blob]):
        inside = layout_version()
    assert len({before, inside, layout_version()}) == 3
