"""safetensors: tensors, shared ones, and the prototxt beside them."""

from __future__ import annotations

import sys

import pytest
import safetensors
import torch

from reference.deployable_nets import SIAMESE
from sphereface.convert.safetensors import (
    read_safetensors,
    safetensors_prototxt,
    write_safetensors,
)
from sphereface.convert.state_dict import load_state_dict, net_state
from sphereface.errors import SphereFaceError


def test_file_and_back_with_shared_parameters(build, inputs_of, tmp_path):
    path = tmp_path / "net.safetensors"
    net = build(SIAMESE)
    write_safetensors(net_state(net), path, SIAMESE)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt", "prototxt": SIAMESE}
        assert sorted(file.keys()) == ["feat.bias", "feat.weight", "feat_p.bias", "feat_p.weight"]
    other = build(safetensors_prototxt(path))
    for parameter in other.parameters():
        parameter.data.zero_()
    load_state_dict(other, read_safetensors(path))
    x = inputs_of(net)[0]
    for name, top in net(x).items():
        assert torch.equal(other(x)[name], top)
        assert top.abs().max() > 0
    assert other.layer("feat").weight is other.layer("feat_p").weight


def test_comments_in_an_old_encoding(tmp_path):
    path = tmp_path / "net.safetensors"
    text = b"# caf\xe9\n".decode("utf-8", "surrogateescape")
    write_safetensors({"a": torch.ones(2)}, path, text)
    assert safetensors_prototxt(path) == "# caf?\n"


def test_without_a_prototxt(tmp_path):
    write_safetensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert safetensors_prototxt(tmp_path / "a.safetensors") == ""


@pytest.mark.parametrize("read", [read_safetensors, safetensors_prototxt])
@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b'\x08\0\0\0\0\0\0\0{"a": 1'])
def test_damaged_files(read, data, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(SphereFaceError, match=r"a\.safetensors: damaged"):
        read(tmp_path / "a.safetensors")


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(SphereFaceError, match=r"pip install \"sphereface\[safetensors\]\""):
        read_safetensors(tmp_path / "a.safetensors")
