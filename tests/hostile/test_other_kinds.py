"""Files of other kinds where a reader wants its own: each is told by what it is, with its name."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from sphereface.caffe import DataOptions, load, open_net
from sphereface.caffe.weight_files import read_weights
from sphereface.errors import SphereFaceError
from sphereface.evaluation.pair_lists import read_pairs
from sphereface.images import read_mean_file
from sphereface.images.lists import read_image_list
from sphereface.proto.upgrade_file import upgrade_file
from sphereface.solver.config import read_solver
from sphereface.weights import (
    read_binaryproto,
    read_caffemodel_h5,
    read_solverstate,
    write_binaryproto,
)

GOLDEN = Path(__file__).parents[1] / "golden"
ARRAY = np.ones((1, 3, 4, 4), np.float32)


def _numpy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, ARRAY)
    return stream.getvalue()


def _torch() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream)
    return stream.getvalue()


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=ARRAY)
    return stream.getvalue()


def _hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["label"] = ARRAY
    return stream.getvalue()


KINDS = {
    "an HTML page": b"<!DOCTYPE html>\n<html></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
    "a gzip archive": gzip.compress(bytes(100)),
    "numpy arrays": _npz(),
    "a numpy array": _numpy(),
    "a PyTorch checkpoint": _torch(),
    "an HDF5 file": _hdf5(),
    "a solverstate": (GOLDEN / "train" / "sgd_iter_40.solverstate").read_bytes(),
}


def _data(layer: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        options = DataOptions(workers=0, seed=0)
        return open_net(f"layer {{ {layer.replace('SOURCE', str(path))} }}", data=options)

    return read


READERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "net": (load, ("a PyTorch checkpoint", "an HDF5 file")),  # told to be weights alone
    "upgrade": (upgrade_file, ()),
    "solver": (read_solver, ()),
    "weights": (read_weights, ("a PyTorch checkpoint", "an HDF5 file")),
    "binaryproto": (read_binaryproto, ()),
    "mean": (read_mean_file, ("a numpy array",)),
    "solverstate": (read_solverstate, ("a solverstate", "an HDF5 file")),
    "HDF5 weights": (read_caffemodel_h5, ("an HDF5 file",)),
    "list of images": (read_image_list, ()),
    "pairs": (read_pairs, ()),
    "HDF5Data": (
        _data('name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "SOURCE" }'), ()),
    "ImageData": (
        _data('name: "d" type: "ImageData" top: "x" top: "t" image_data_param '
              '{ source: "SOURCE" batch_size: 1 }'), ()),
    "Data": (
        _data('name: "d" type: "Data" top: "x" data_param { source: "SOURCE" batch_size: 1 '
              'backend: LMDB }'), ()),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_file_is_is_told(reader, kind, tmp_path):
    read, reads = READERS[reader]
    path = tmp_path / "given"
    path.write_bytes(KINDS[kind])
    if kind in reads:
        return
    with pytest.raises(SphereFaceError) as caught:
        read(path)
    error = caught.value
    assert error.problem.startswith(kind), error
    assert str(path) in error.where
    assert error.expected


def test_an_hdf5_file_where_a_list_of_them_is_meant(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(KINDS["an HDF5 file"])
    told = "x.h5: an HDF5 file; expected a list of files.*name it in a text file, a file a line, an"
    with pytest.raises(SphereFaceError, match=told):
        READERS["HDF5Data"][0](path)


def test_a_numpy_mean_of_any_name(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(KINDS["a numpy array"])
    np.testing.assert_array_equal(read_mean_file(path), ARRAY[0])


def test_a_mean_and_texts_in_the_place_of_weights(tmp_path):
    write_binaryproto(tmp_path / "mean", ARRAY)
    for read in (load, read_weights):
        with pytest.raises(SphereFaceError, match="mean: a binaryproto; expected a"):
            read(tmp_path / "mean")
    prototxt = GOLDEN / "orl_sphereface4" / "deploy.prototxt"
    for read in (read_binaryproto, read_solverstate):
        with pytest.raises(SphereFaceError, match=r"deploy.prototxt: a text file; expected a \w+"):
            read(prototxt)
    with pytest.raises(SphereFaceError, match="a text file; .*the prototxt comes before the weig"):
        read_weights(prototxt)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_that_windows_wrote(encoding, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("größe/a.jpg 0\nb.jpg 1\n", encoding=encoding)
    found = read_image_list(path)
    assert (found.names, found.labels.tolist()) == (["größe/a.jpg", "b.jpg"], [0, 1])


def test_a_binary_file_in_the_place_of_a_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes((GOLDEN / "train" / "sgd_iter_40.caffemodel").read_bytes())
    with pytest.raises(SphereFaceError, match=r"list.txt: a binary file; expected a list of imag"):
        read_image_list(path)
