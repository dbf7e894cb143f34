from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver.sidecar import Sidecar, read_sidecar, write_sidecar


def test_written_and_read(tmp_path):
    written = Sidecar(
        7,
        {"model": 1, "state": 2},
        {"0/fc6.iteration": np.array(7)},
        {"cpu": np.arange(5, dtype=np.uint8)},
        [{"data": {"seed": 1}, "order": np.arange(3)}, None],
        {"loss scale of fp16": 1024.0},
    )
    write_sidecar(tmp_path / "s.npz", written)
    found = read_sidecar(tmp_path / "s.npz")
    assert (found.iteration, found.checksums, found.passes) == (
        7,
        written.checksums,
        written.passes,
    )
    assert found.buffers["0/fc6.iteration"] == 7
    assert found.generators["cpu"].tolist() == list(range(5))
    assert found.sources[0]["data"] == {"seed": 1}
    assert found.sources[0]["order"].tolist() == [0, 1, 2]
    assert found.sources[1] is None


def old(path, **more):
    """Write the first version's file."""
    meta = {"version": 1, "iteration": 3, "checksums": {}, "sources": [{"data": {"seed": 9}}]}
    arrays = {"buffer:0/fc6.iteration": np.array(3), "generator:cpu": np.zeros(2, np.uint8)}
    np.savez(path, meta=np.array(json.dumps({**meta, **more})), **arrays)


def test_the_first_version_is_read(tmp_path):
    old(tmp_path / "s.npz")
    found = read_sidecar(tmp_path / "s.npz")
    assert (found.iteration, found.sources, found.passes) == (3, [{"data": {"seed": 9}}], {})
    assert found.buffers["0/fc6.iteration"] == 3


def test_later_versions_are_not(tmp_path):
    old(tmp_path / "s.npz", version=3)
    with pytest.raises(SphereFaceError, match="version 3; expected 2 or older"):
        read_sidecar(tmp_path / "s.npz")


def test_what_unpacks_to_more_than_itself_is_refused(tmp_path):
    old(tmp_path / "s.npz")
    with zipfile.ZipFile(tmp_path / "s.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        zeros = io.BytesIO()
        np.save(zeros, np.zeros(1 << 20, np.uint8))
        archive.writestr("buffer:0/bomb.npy", zeros.getvalue())
    assert (tmp_path / "s.npz").stat().st_size < 1 << 13
    with pytest.raises(SphereFaceError, match=r"not a readable sidecar \(\d+ bytes that unpack"):
        read_sidecar(tmp_path / "s.npz")


def test_an_array_that_claims_to_be_endless(tmp_path):
    old(tmp_path / "s.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 60,)}
    )
    with zipfile.ZipFile(tmp_path / "s.npz", "a") as archive:
        archive.writestr("buffer:0/endless.npy", header.getvalue())
    with pytest.raises(SphereFaceError, match="not a readable sidecar"):
        read_sidecar(tmp_path / "s.npz")
