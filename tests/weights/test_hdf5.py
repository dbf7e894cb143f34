from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.weights import Blob, hdf5, load_weights, read_caffemodel_h5, write_caffemodel_h5

TRAIN = Path(__file__).parent.parent / "golden" / "train"
RECORDED = TRAIN / "sgd_h5.caffemodel.h5"


def test_recorded_file_has_the_recorded_numbers() -> None:
    params = np.load(TRAIN / "sgd_h5_params.npz")
    weights = load_weights(RECORDED)
    found = {f"{name}/{i}": a for name, arrays in weights.items() for i, a in enumerate(arrays)}
    assert found.keys() == set(params.files)
    for key, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, params[key])
    assert weights["pool1"] == []


def test_recorded_file_is_written_again(tmp_path: Path) -> None:
    out = tmp_path / "out.caffemodel.h5"
    write_caffemodel_h5(out, read_caffemodel_h5(RECORDED))

    def contents(path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: found.update(
                    {name: (item.dtype, item.shape, item.chunks, item[()].tobytes())}
                    if isinstance(item, h5py.Dataset)
                    else {name: None}
                )
            )
        return found

    assert contents(out) == contents(RECORDED)
    assert len(contents(out)) == 20


def test_names_shared_blobs_and_diffs(tmp_path: Path) -> None:
    path = tmp_path / "n.h5"
    one = np.ones((2, 1), np.float32)
    layers = {
        "conv2_1/dw": [one],
        "conv2_1": [3 * one],
        "7": [np.float32(0.25).reshape(())],
        "shared": [None, 2 * one],
        "empty": [],
        "diff": [Blob(one.astype("f8"), 5 * one.astype("f8"))],
        "half": [np.float16([0.5])],
        "many": [np.full(1, i, np.float32) for i in range(12)],
    }
    write_caffemodel_h5(path, layers)
    weights = read_caffemodel_h5(path)
    assert weights.keys() == layers.keys()
    assert weights["conv2_1/dw"][0].tolist() == [[1], [1]]
    assert weights["conv2_1"][0].tolist() == [[3], [3]]
    assert weights["7"][0].shape == ()
    assert weights["shared"][0] is None
    assert weights["shared"][1].tolist() == [[2], [2]]
    assert weights["empty"] == []
    assert weights["diff"][0].dtype == np.float64
    assert weights["half"][0].dtype == np.float32
    assert [float(a[0]) for a in weights["many"]] == list(range(12))
    with h5py.File(path) as file:
        assert file["diff/diff/0"][()].tolist() == [[5], [5]]


def test_compressed_files_load(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "n.h5", "w") as file:
        values = np.arange(1000, dtype=">f4").reshape(10, 100)
        file.create_dataset("data/ip/0", data=values, compression="gzip", chunks=(5, 50))
    array = load_weights(tmp_path / "n.h5")["ip"][0]
    assert array.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(array, values)


def test_unwritable(tmp_path: Path) -> None:
    for layers, problem in (
        ({"a": [np.arange(3)]}, 'layer "a": an array of int64'),
        ({"a//b": []}, "a name that HDF5 cannot hold"),
        ({"": []}, "a name that HDF5 cannot hold"),
    ):
        with pytest.raises(SphereFaceError, match=problem):
            write_caffemodel_h5(tmp_path / "n.h5", layers)
    assert not list(tmp_path.iterdir())


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        SphereFaceError, match=r"h5py is not installed; pip install 'sphereface\[hdf5\]'"
    ):
        hdf5.read_caffemodel_h5(RECORDED)


def test_not_hdf5(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name, problem in (("text", "not an HDF5 file"), ("missing", "no such file")):
        with pytest.raises(SphereFaceError, match=problem):
            read_caffemodel_h5(tmp_path / name)
