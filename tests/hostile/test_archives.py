"""Damaged archives of numpy and torch: whatever their readers raise, one line comes out."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.checkpoints import read_state_dict
from sphereface.errors import SphereFaceError
from sphereface.images import read_mean_file
from sphereface.inference import Predictor
from sphereface.inference.forward import read_arrays
from sphereface.solver.sidecar import read_sidecar

NET = """layer { name: "i" type: "Input" top: "x" input_param { shape { dim: [1, 3] } } }
layer { name: "r" type: "ReLU" bottom: "x" top: "y" }"""


def npy(header: bytes) -> bytes:
    """Return an .npy of 12 bytes with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(12)


NPY = {
    "unclosed header": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,"),
    "unclosed string": npy(b"{'descr': '<f4', '''"),
    "header of another type": npy(b"{'descr': [[[]]], 'fortran_order': False, 'shape': (3,)}"),
    "huge shape": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2147483647, 65536)}"),
    "nested": npy(b"(" * 9000),
    "version": b"\x93NUMPY\x09\x00" + bytes(40),
    "cut": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}")[:-5],
}


def archive(name: str, content: bytes, *, compression: int = 0, flags: int = 0) -> bytes:
    """Return a zip file with one entry, whose headers say this compression and these flags."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(name, content)
    data = bytearray(stream.getvalue())
    central = data.index(b"PK\x01\x02")
    for at in (6, central + 8):
        data[at : at + 4] = flags.to_bytes(2, "little") + compression.to_bytes(2, "little")
    return bytes(data)


def objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.array([{"a": 1}, None], dtype=object))
    return stream.getvalue()


WHOLE = npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}")
NPZ = {
    **{name: archive("x.npy", content) for name, content in NPY.items()},
    "compression": archive("x.npy", WHOLE, compression=99),
    "encrypted": archive("x.npy", WHOLE, flags=1),
    "no array": archive("x.txt", b"x"),
    "objects": objects(),
    "no archive": b"PK\x03\x04",
}


@pytest.mark.parametrize("name", NPY)
def test_numpy_files(name, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(NPY[name])
    with pytest.raises(SphereFaceError, match=r"x.npy: not a (readable )?numpy file"):
        read_arrays(path, Predictor(load(NET)))
    with pytest.raises(SphereFaceError, match=r"x.npy: not a numpy file"):
        read_mean_file(path)


@pytest.mark.parametrize("name", NPZ)
def test_numpy_archives(name, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(NPZ[name])
    with pytest.raises(SphereFaceError, match=r"x.npz: "):
        read_arrays(path, Predictor(load(NET)))
    with pytest.raises(SphereFaceError, match=r"x.npz: not a readable sidecar \(.+\); remove the"):
        read_sidecar(path)


def test_object_arrays_are_told(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(NPZ["objects"])
    with pytest.raises(SphereFaceError, match=r"\(it holds Python objects\); expected arrays"):
        read_arrays(path, Predictor(load(NET)))


def state(pickled: bytes) -> bytes:
    """Return a state dict of torch whose pickle is replaced."""
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream)
    source, result = zipfile.ZipFile(stream), io.BytesIO()
    with zipfile.ZipFile(result, "w") as target:
        for entry in source.namelist():
            content = pickled if entry.endswith("data.pkl") else source.read(entry)
            target.writestr(entry, content)
    return result.getvalue()


PICKLES = {
    "empty": b"",
    "cut string": b"\x80\x02X\xff\x00\x00\x00ab",
    "cut number": b"\x80\x02J\x01",
    "stack": b"\x80\x02\x85.",
    "types": b"\x80\x02K\x01K\x02s.",
    "persistent": b"\x80\x02K\x01Q.",
    "persistent tuple": b"\x80\x02(X\x07\x00\x00\x00storageK\x01K\x02tQ.",
    "a number": pickle.dumps(3, 2),
    "a class": pickle.dumps(Path, 2),
}


@pytest.mark.parametrize("name", PICKLES)
def test_state_dicts(name, tmp_path):
    path = tmp_path / "net.pt"
    for data in (state(PICKLES[name]), PICKLES[name], state(PICKLES[name])[:-40]):
        path.write_bytes(data)
        with pytest.raises(SphereFaceError, match=r"net.pt: \S"):
            read_state_dict(path)


def test_a_state_dict_that_is_no_file(tmp_path):
    with pytest.raises(SphereFaceError, match="nowhere.pt: no such state dict"):
        read_state_dict(tmp_path / "nowhere.pt")
    with pytest.raises(SphereFaceError, match="a folder; expected a state dict"):
        read_state_dict(tmp_path)
