from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.images import read_mean, read_mean_file
from sphereface.weights import write_binaryproto


def test_means(tmp_path, rng):
    np.testing.assert_array_equal(read_mean("127.5"), [127.5])
    np.testing.assert_array_equal(read_mean("104, 117,123.5"), [104, 117, 123.5])
    mean = rng.normal(size=(1, 3, 2, 2)).astype(np.float32)
    path = str(tmp_path / "mean.binaryproto")
    write_binaryproto(path, mean)
    np.testing.assert_array_equal(read_mean(path), mean[0])
    np.testing.assert_array_equal(read_mean(path, "rgb"), mean[0, ::-1])
    with pytest.raises(SphereFaceError, match="nowhere"):
        read_mean("nowhere.binaryproto")
    write_binaryproto(path, mean[0, 0])
    with pytest.raises(SphereFaceError, match=r"expected a mean image"):
        read_mean(path)


@pytest.mark.parametrize("shape", [(3, 2, 4), (1, 3, 2, 4), (3,)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_means_of_numpy(tmp_path, rng, shape, dtype):
    mean = (255 * rng.random(shape)).astype(dtype)
    path = str(tmp_path / "mean.npy")
    np.save(path, mean)
    for read, expected in (
        (read_mean_file(path), mean),
        (read_mean(path, "rgb"), mean[..., ::-1, :, :] if len(shape) > 1 else mean[::-1]),
    ):
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, expected.reshape(read.shape).astype(np.float32))
        assert read.ndim == (1 if len(shape) == 1 else 3)


def test_what_is_no_mean(tmp_path):
    path = str(tmp_path / "mean.npy")
    for array in (np.zeros((2, 3, 4, 4)), np.zeros((4, 4)), np.zeros((3, 0, 0)), np.float32(1)):
        np.save(path, array)
        with pytest.raises(
            SphereFaceError, match=r"mean.npy: a mean of shape .*expected \(C, H, W"
        ):
            read_mean_file(path)
    np.save(path, np.array(["a"]))
    with pytest.raises(SphereFaceError, match="no array of numbers"):
        read_mean_file(path)
    (tmp_path / "mean.npy").write_bytes(b"text")
    with pytest.raises(SphereFaceError, match="mean.npy: not a numpy file"):
        read_mean_file(path)
    with pytest.raises(SphereFaceError, match="gone.npy: no such file"):
        read_mean("gone.npy")
    with pytest.raises(SphereFaceError, match='mean "nan"; expected finite numbers'):
        read_mean("nan")
