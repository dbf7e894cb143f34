from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.weights import Blob, read_binaryproto, write_binaryproto


def test_mean_is_what_compute_image_mean_writes(tmp_path: Path) -> None:
    mean = np.random.default_rng(0).uniform(0, 255, (1, 3, 4, 5)).astype("f4")
    path = tmp_path / "mean.binaryproto"
    write_binaryproto(path, mean)
    proto = schema.message("BlobProto")(num=1, channels=3, height=4, width=5)
    proto.data.extend(mean.ravel().tolist())
    assert path.read_bytes() == proto.SerializeToString(deterministic=True)
    again = read_binaryproto(path)
    np.testing.assert_array_equal(again, mean)
    assert not again.flags.owndata


def test_other_blobs_keep_their_axes(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    array = np.random.default_rng(0).normal(size=(2, 5))
    write_binaryproto(path, array)
    again = read_binaryproto(path)
    assert again.dtype == np.float64
    np.testing.assert_array_equal(again, array)
    write_binaryproto(path, Blob(array.reshape(1, 1, 2, 5)))
    assert schema.message("BlobProto").FromString(path.read_bytes()).shape.dim == [1, 1, 2, 5]


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "net"
    path.write_bytes(schema.message("NetParameter")(name="net").SerializeToString())
    with pytest.raises(SphereFaceError, match=r"byte 0: field 1 \(num\) is a length-delimited"):
        read_binaryproto(path)
