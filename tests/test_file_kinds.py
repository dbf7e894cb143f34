"""Files of many kinds, made by the libraries that write them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
import onnx
import pytest
import safetensors.numpy
import scipy.io
import torch

from sphereface.errors import SphereFaceError
from sphereface.file_kinds import file_kind
from sphereface.files import read_text
from sphereface.weights import SolverState, write_binaryproto, write_solverstate

GOLDEN = Path(__file__).parent / "golden"
ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)
PAGES = {
    "a Git LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
    "an HTML page": "\n<!DOCTYPE html>\n<html lang='en'><head></head></html>",
    "the answer of a server": "404: Not Found",
    "the error of a server": "<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    "a net of OpenVINO": '<?xml version="1.0"?>\n<net name="a" version="11"></net>',
    "a JSON file": json.dumps({"class_name": "Functional"}, indent=1),
    "a Python program": "import caffe\nnet = caffe.Net('a')\n",
    "an RTF document": "{\\rtf1\\ansi name: x}",
    "a net of ncnn": "7767517\n75 83\nInput data 0 1 data\n",
    "a net of Darknet": "[net]\nbatch=64\n",
    "a patch": "diff --git a/x b/x\n",
    "a YAML file": "%YAML:1.0\n---\n",
}


def _onnx() -> bytes:
    x = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [x])
    return onnx.helper.make_model(graph, producer_name="pytorch").SerializeToString()


def _stream(save) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _archive(stream) -> None:
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net.prototxt", "layer { }")


def _tar(stream) -> None:
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(__file__)


def _lmdb(folder: Path) -> bytes:
    with lmdb.open(str(folder), map_size=1 << 20) as database, database.begin(write=True) as change:
        change.put(b"0", b"x")
    return (folder / "data.mdb").read_bytes()


def _written(path: Path, write) -> bytes:
    write(path)
    return path.read_bytes()


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = ARRAY


def _pickles(folder: Path) -> list[bytes]:
    old = _stream(
        lambda s: torch.save({"a": torch.ones(2)}, s, _use_new_zipfile_serialization=False)
    )
    return [old, *(pickle.dumps({"a": [1]}, protocol) for protocol in (2, 3, 4, 5))]


MADE = {
    "a gzip archive": lambda folder: gzip.compress(b"layer { }"),
    "a bzip2 archive": lambda folder: bz2.compress(b"layer { }"),
    "an xz archive": lambda folder: lzma.compress(b"layer { }"),
    "a zip archive": lambda folder: _stream(_archive),
    "a tar archive": lambda folder: _stream(_tar),
    "a numpy array": lambda folder: _stream(lambda s: np.save(s, ARRAY)),
    "numpy arrays": lambda folder: _stream(lambda s: np.savez(s, a=ARRAY)),
    "a PyTorch checkpoint": lambda folder: _stream(lambda s: torch.save({"a": torch.ones(2)}, s)),
    "a safetensors file": lambda folder: safetensors.numpy.save({"a": ARRAY}),
    "an ONNX model": lambda folder: _onnx(),
    "a MATLAB file": lambda folder: _stream(lambda s: scipy.io.savemat(s, {"a": ARRAY})),
    "an HDF5 file": lambda folder: _written(folder / "a", _hdf5),
    "a JPEG picture": lambda folder: cv2.imencode(".jpg", ARRAY)[1].tobytes(),
    "a PNG picture": lambda folder: cv2.imencode(".png", ARRAY)[1].tobytes(),
    "a WebP picture": lambda folder: cv2.imencode(".webp", np.zeros((4, 4, 3), "u1"))[1].tobytes(),
    "the data.mdb of an LMDB": _lmdb,
    "a TensorFlow Lite model": lambda folder: b"\x20\0\0\0TFL3" + bytes(40),
    "a PDF document": lambda folder: b"%PDF-1.5\n%\xd0\xd4\n",
    "nothing but zeros": lambda folder: bytes(4096),
}


@pytest.mark.parametrize("what", [*MADE, *PAGES])
def test_a_kind_is_told(what, tmp_path):
    data = MADE[what](tmp_path) if what in MADE else PAGES[what].encode()
    kind = file_kind(data)
    assert kind is not None
    assert kind.what.startswith(what)


def test_pickles_of_every_protocol(tmp_path):
    assert {file_kind(data).what[:8] for data in _pickles(tmp_path)} == {"a pickle"}


def _ours() -> list[Path]:
    root = Path(__file__).parents[1]
    prototxts = [*root.glob("models/**/*.prototxt"), *root.glob("tests/**/*.prototxt")]
    return [*prototxts, *GOLDEN.glob("**/*.caffemodel")]


def test_caffes_own_files_are_of_no_other_kind(tmp_path):
    write_binaryproto(tmp_path / "mean", ARRAY.reshape(1, 1, 3, 4))
    assert file_kind((tmp_path / "mean").read_bytes()).what == "a binaryproto"
    files = _ours()
    assert len(files) > 100
    assert [path for path in files if file_kind(path.read_bytes())] == []


@pytest.mark.parametrize("iteration", [1, 40, 300, 100_000])
def test_a_solverstate_is_one(iteration, tmp_path):
    state = SolverState(iteration, "snapshots/a_iter_40.caffemodel", (ARRAY,))
    write_solverstate(tmp_path / "state", state)
    assert file_kind((tmp_path / "state").read_bytes()).what == "a solverstate"


def test_a_text_is_not_read_from_another_kind(tmp_path):
    """Of structured text its reader judges; the page of a server nobody wants."""
    path = tmp_path / "pairs.txt"
    path.write_text(PAGES["a JSON file"])
    assert read_text(path, limit=1000).startswith("{")
    for what in ("a Git LFS pointer", "an HTML page", "the answer of a server"):
        path.write_text(PAGES[what])
        with pytest.raises(SphereFaceError, match=f"pairs.txt: {what}.*; expected a list of pairs"):
            read_text(path, limit=1000, what="list of pairs")
    _hdf5(path)
    with pytest.raises(SphereFaceError, match=r"pairs.txt: an HDF5 file; expected a list of pairs"):
        read_text(path, limit=100_000, what="list of pairs")
