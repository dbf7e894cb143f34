"""Each format read back by its own library, from batches of uneven sizes."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pytest
from scipy.io import loadmat

from sphereface.data.datum import datum_image, read_datum
from sphereface.errors import SphereFaceError
from sphereface.inference import mat
from sphereface.inference.sinks import open_sink

NAMES = ["a/1.png", "b/zwei ä.png", "c", "d/\udcff.png", "e/5"]


@pytest.fixture
def blobs(rng):
    return {"fc5": rng.normal(size=(5, 3)).astype("f4"),
            "pool/x": rng.normal(size=(5, 2, 1, 2)).astype("f4")}  # fmt: skip


def write(path, blobs, names=NAMES, cuts=(0, 2, 4, 5), wanted=()):
    with open_sink(Path(path), wanted or list(blobs)) as sink:
        for begin, end in pairwise(cuts):
            sink.write(names[begin:end], {name: b[begin:end] for name, b in blobs.items()})
    assert not [p for p in Path(path).parent.iterdir() if p.name.startswith(".")]


def test_npz(tmp_path, blobs):
    write(tmp_path / "f.npz", {"fc5": blobs["fc5"]})
    with np.load(tmp_path / "f.npz") as found:
        assert found.files == ["path", "features"]
        assert found["path"].tolist() == NAMES
        assert found["features"].dtype == np.float32
        np.testing.assert_array_equal(found["features"], blobs["fc5"])
    write(tmp_path / "two.npz", blobs)
    with np.load(tmp_path / "two.npz") as found:
        assert sorted(found) == ["fc5", "path", "pool/x"]
        np.testing.assert_array_equal(found["pool/x"], blobs["pool/x"].reshape(5, 4))


def test_npy(tmp_path, blobs):
    write(tmp_path / "f.npy", {"x": blobs["pool/x"]})
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), blobs["pool/x"].reshape(5, 4))
    text = (tmp_path / "f.paths.txt").read_text(encoding="utf-8", errors="surrogateescape")
    assert text.split("\n") == [*NAMES, ""]


def test_h5(tmp_path, blobs):
    write(tmp_path / "f.h5", blobs)
    with h5py.File(tmp_path / "f.h5") as file:
        found = [name.decode("utf-8", "surrogateescape") for name in file["path"]]
        assert found == NAMES
        np.testing.assert_array_equal(file["fc5"], blobs["fc5"])
        np.testing.assert_array_equal(file["pool/x"], blobs["pool/x"].reshape(5, 4))


def test_mat(tmp_path, blobs):
    names = [*NAMES[:3], "", NAMES[4]]
    write(tmp_path / "f.mat", blobs, names)
    found = loadmat(tmp_path / "f.mat")
    assert found["path"].shape == (5, 1)
    assert [cell[0] if cell.size else "" for cell in found["path"][:, 0]] == names
    assert found["fc5"].dtype == np.float32
    np.testing.assert_array_equal(found["fc5"], blobs["fc5"])
    np.testing.assert_array_equal(found["pool_x"], blobs["pool/x"].reshape(5, 4))


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_mat_in_blocks(block, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(mat, "_BLOCK", block)
    features = rng.normal(size=(5, 9)).astype("f4")
    write(tmp_path / "f.mat", {"x": features})
    np.testing.assert_array_equal(loadmat(tmp_path / "f.mat")["features"], features)


def test_mat_beyond_level_5(tmp_path, blobs, monkeypatch):
    """Version 7.3: MATLAB, and who reads its files, sees HDF5's axes in the opposite order."""
    monkeypatch.setattr(mat, "LARGEST", 1025)
    monkeypatch.setattr(mat, "_BLOCK", 6)
    write(tmp_path / "f.mat", {"fc5": blobs["fc5"]}, [*NAMES[:3], "x", "y"])
    data = (tmp_path / "f.mat").read_bytes()
    assert data.startswith(b"MATLAB 7.3 MAT-file")
    assert data[124:128] == b"\0\2IM"
    with h5py.File(tmp_path / "f.mat") as file:
        assert file["features"].attrs["MATLAB_class"] == b"single"
        np.testing.assert_array_equal(np.transpose(file["features"]), blobs["fc5"])
        rows = np.ascontiguousarray(np.transpose(file["path"]))
        assert [row.tobytes().decode("utf-16-le").rstrip() for row in rows] == [
            *NAMES[:3], "x", "y",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "datum"), [((4,), (4, 1, 1)), ((4, 1, 1), (4, 1, 1)), ((2, 3, 4), (2, 3, 4))]
)
def test_lmdb(shape, datum, tmp_path, rng):
    features = rng.normal(size=(5, *shape)).astype("f4")
    write(tmp_path / "f.lmdb", {"x": features})
    with lmdb.open(str(tmp_path / "f.lmdb"), readonly=True, lock=False) as env, env.begin() as txn:
        records = {key.decode(): read_datum(value) for key, value in txn.cursor()}
    assert list(records) == [f"{i:010d}" for i in range(5)]
    for record, row in zip(records.values(), features, strict=True):
        assert (record.channels, record.height, record.width) == datum
        image = datum_image(record).transpose(2, 0, 1)
        np.testing.assert_array_equal(image, row.reshape(datum))
    assert (tmp_path / "f.paths.txt").exists()


def test_a_failure_leaves_what_was_there(tmp_path, blobs):
    for name in ("f.npz", "f.h5", "f.mat"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(KeyError, match="fc6"):
            write(tmp_path / name, {"fc5": blobs["fc5"]}, wanted=["fc5", "fc6"])
        assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_replacing_an_lmdb(tmp_path, blobs):
    for value in (1.0, 2.0):
        write(tmp_path / "f.lmdb", {"x": np.full((5, 2), value, "f4")})
        with (
            lmdb.open(str(tmp_path / "f.lmdb"), readonly=True, lock=False) as env,
            env.begin() as t,
        ):
            assert read_datum(t.get(b"0000000004")).float_data[0] == value


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("f.csv", ["a"], r'the suffix "\.csv"; expected \.npz, \.npy, \.h5'),
        ("f.npy", ["a", "b"], r"2 blobs \(a, b\); expected one for \.npy"),
        ("f.lmdb", ["a", "b"], r"2 blobs"),
        ("f.npz", ["a", "path"], 'a blob called "path"'),
    ],
)
def test_what_cannot_be_written(name, wanted, message, tmp_path):
    with pytest.raises(SphereFaceError, match=message), open_sink(tmp_path / name, wanted):
        pass
    assert not list(tmp_path.iterdir())


def test_widths_that_differ(tmp_path):
    for name in ("f.npz", "f.h5"):
        with open_sink(tmp_path / name, ["x"]) as sink:
            sink.write(["a"], {"x": np.zeros((1, 2))})
            with pytest.raises(SphereFaceError, match="3 values a record after 2"):
                sink.write(["b"], {"x": np.zeros((1, 3))})


@pytest.mark.parametrize("name", ["f.npz", "f.npy", "f.h5", "f.mat"])
def test_memory_is_that_of_a_batch(name, tmp_path):
    """40 MB of features and 200,000 names through less than 12 MB, assembly included."""
    batch = np.ones((1000, 50), "f4")
    tracemalloc.start()
    try:
        with open_sink(tmp_path / name, ["x"]) as sink:
            for begin in range(0, 200_000, 1000):
                sink.write([f"{i:040d}" for i in range(begin, begin + 1000)], {"x": batch})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / name).stat().st_size > 40_000_000
    assert peak < 12_000_000
