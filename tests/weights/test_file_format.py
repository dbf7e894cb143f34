from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from sphereface.weights import weight_format

GOLDEN = Path(__file__).parents[1] / "golden" / "train"


def _safetensors(path):
    save_file({"a": np.ones(3, np.float32)}, path)


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")


def _hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_group("data")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_safetensors, "safetensors"),
        (_zip, "torch"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1}, 2)), "torch"),
        (_hdf5, "hdf5"),
        (lambda path: path.write_text('name: "net"\nlayer { }\n'), "text"),
        (lambda path: path.write_bytes((GOLDEN / "sgd_iter_40.caffemodel").read_bytes()),
         "caffemodel"),
        (lambda path: path.write_bytes(b"\xff\x01" * 100), "caffemodel"),
        (lambda path: path.write_bytes(b""), "caffemodel"),
        (lambda path: None, "caffemodel"),
        (os.mkfifo, "caffemodel"),
    ],
)  # fmt: skip
def test_content_tells_whatever_the_name_says(make, expected, tmp_path):
    path = tmp_path / "weights.caffemodel.pt"
    make(path)
    assert weight_format(path) == expected
