from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

from sphereface.errors import SphereFaceError
from sphereface.mat_file import read_mat


def content():
    records = np.zeros((3, 1), [("name", object), ("values", object)])
    for index in range(3):
        records[index, 0] = (f"{index}é.jpg", np.arange(4.0)[:, None] + index)
    return {
        "records": records,
        "real": np.arange(6, dtype=np.float32).reshape(2, 3),
        "integers": np.arange(5, dtype=np.uint8),
        "turning": np.array([[1 + 2j]]),
        "empty": np.zeros((0, 3)),
        "text": "some text",
        "rows": np.array(["ab", "cd"]),
        "cells": np.array([[np.eye(2), "x", np.zeros((0, 0))]], object),
        "truth": np.array([[True, False]]),
        "nested": {"a": {"b": np.int32(7)}},
    }


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def mat(tmp_path, request):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, content(), do_compression=request.param)
    return path


def test_what_scipy_reads(mat):
    expected, got = scipy.io.loadmat(mat), read_mat(mat, "faces")
    assert got.keys() == expected.keys()
    for name in content():
        assert got[name].dtype == expected[name].dtype
        assert repr(got[name]) == repr(expected[name])
    squeezed = read_mat(mat, "faces", squeeze=True)
    assert squeezed["records"]["name"].tolist() == ["0é.jpg", "1é.jpg", "2é.jpg"]


def test_damage_is_an_error(tmp_path):
    """In a process of its own, which scipy's reader alone ends within a hundred of these."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, content())
    code = """
import random, sys
from sphereface.errors import SphereFaceError
from sphereface.mat_file import read_mat
whole, told, rng = open(sys.argv[1], "rb").read(), 0, random.Random(3)
for _ in range(1500):
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 5, 14, 255, rng.randrange(256)))
    open(sys.argv[1], "wb").write(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
    try:
        read_mat(sys.argv[1], "faces")
    except SphereFaceError:
        told += 1
print(told)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 500 < int(done.stdout) < 1500


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:100], "no header of version 5"),
        (lambda data: data[:124] + b"\0\1MI" + data[128:], "a small element of 3584"),
        (lambda data: data[:-8], "an element of"),
        (lambda data: data[:144] + b"\5" + data[145:], "class 5"),
    ],
    ids=["cut header", "other order", "cut", "sparse"],
)  # fmt: skip
def test_what_is_wrong(tmp_path, change, told):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": np.arange(3.0)})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SphereFaceError, match=rf"a\.mat: no readable \.mat \(.*{told}"):
        read_mat(path, "faces")


def test_a_bomb_is_refused(tmp_path):
    """Nesting that would end the stack."""
    inner = b""
    for _ in range(40):
        header = b"\6\0\0\0\x08\0\0\0\1\0\0\0\0\0\0\0" + b"\5\0\0\0\x08\0\0\0\1\0\0\0\1\0\0\0"
        body = header + b"\1\0\0\0\0\0\0\0" + inner
        inner = b"\x0e\0\0\0" + len(body).to_bytes(4, "little") + body
    path = tmp_path / "a.mat"
    path.write_bytes(b" " * 124 + b"\0\1IM" + inner)
    with pytest.raises(SphereFaceError, match="nested more than 16 deep"):
        read_mat(path, "faces")


def test_random_bytes_after_a_header(tmp_path):
    rng, path = random.Random(1), tmp_path / "a.mat"
    for _ in range(200):
        path.write_bytes(b" " * 124 + b"\0\1IM" + rng.randbytes(rng.randrange(1, 300)))
        with pytest.raises(SphereFaceError, match="no readable"):
            read_mat(path, "faces")
