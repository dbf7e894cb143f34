from __future__ import annotations

import numpy as np
import pytest

from sphereface.caffe.numpy_blob import BlobVec, NumpyBlob
from sphereface.errors import SphereFaceError


def test_sizes():
    blob = NumpyBlob((2, 3, 4))
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 4, 1, 24)
    assert blob.shape == blob.data.shape == blob.diff.shape == (2, 3, 4)
    assert blob.data.dtype == blob.diff.dtype == np.float32
    assert NumpyBlob((2,), np.float64).data.dtype == np.float64
    with pytest.raises(SphereFaceError, match="at most 4 axes"):
        _ = NumpyBlob((1,) * 5).num


def test_writes_stay():
    blob = NumpyBlob((2, 2))
    blob.data[0] = 1
    blob.diff[...] = [[5, 6], [7, 8]]
    np.testing.assert_array_equal(blob.data, [[1, 1], [0, 0]])
    np.testing.assert_array_equal(blob.diff, [[5, 6], [7, 8]])


def test_values_survive_a_reshape_that_needs_no_memory():
    blob = NumpyBlob((2, 3))
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
    array, blob = np.arange(6.0).reshape(2, 3), NumpyBlob((1,))
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
