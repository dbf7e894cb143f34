"""safetensors: tensors, shared ones, and the prototxt beside them."""

from __future__ import annotations

import sys

import pytest
import safetensors
import torch

from reference.deployable_nets import SIAMESE
from sphereface.checkpoints import read_safetensors, write_safetensors
from sphereface.errors import SphereFaceError


def test_shared_tensors_and_the_prototxt(tmp_path):
    path = tmp_path / "net.safetensors"
    shared = torch.arange(6.0).view(2, 3)
    write_safetensors({"feat.weight": shared, "feat_p.weight": shared}, path, SIAMESE)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt", "prototxt": SIAMESE}
    again = read_safetensors(path)
    assert sorted(again) == ["feat.weight", "feat_p.weight"]
    assert all(torch.equal(tensor, shared) for tensor in again.values())


def test_comments_in_an_old_encoding(tmp_path):
    path = tmp_path / "net.safetensors"
    text = b"# caf\xe9\n".decode("utf-8", "surrogateescape")
    write_safetensors({"a": torch.ones(2)}, path, text)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["prototxt"] == "# caf?\n"


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b'\x08\0\0\0\0\0\0\0{"a": 1'])
def test_damaged_files(data, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(SphereFaceError, match=r"a\.safetensors: damaged"):
        read_safetensors(tmp_path / "a.safetensors")


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(SphereFaceError, match=r"pip install 'sphereface\[safetensors\]'"):
        read_safetensors(tmp_path / "a.safetensors")
