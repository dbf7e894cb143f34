"""State dict files: wrapped, hostile and damaged ones."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from sphereface.checkpoints import read_state_dict, write_state_dict
from sphereface.errors import SphereFaceError


def test_a_plain_dict_of_tensors(tmp_path):
    state = {"b.weight": torch.arange(6.0).view(2, 3), "a.weight": torch.ones(2)}
    write_state_dict(state, tmp_path / "net.pt")
    plain = torch.load(tmp_path / "net.pt", weights_only=True)
    assert type(plain) is dict
    assert list(plain) == list(read_state_dict(tmp_path / "net.pt")) == ["b.weight", "a.weight"]
    assert torch.equal(plain["b.weight"], state["b.weight"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_wrapped_checkpoints(prefix, tmp_path):
    torch.save({"state_dict": {f"{prefix}a.weight": torch.ones(2)}, "epoch": 3}, tmp_path / "c.pth")
    if prefix == "_orig_mod.module.":
        state = torch.load(tmp_path / "c.pth")["state_dict"]
        torch.save({"state_dict": state}, tmp_path / "c.pth")
    assert list(read_state_dict(tmp_path / "c.pth")) == ["a.weight"]


class Command:
    def __reduce__(self):
        return os.mkdir, ("made_by_the_file",)


def _text(path):
    path.write_text("state")


def _pickled_code(path):
    torch.save({"a": Command()}, path)


def _plain_pickle(path):
    with path.open("wb") as stream:
        pickle.dump(Command(), stream)


def _truncated(path):
    torch.save({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-300])


def _module(path):
    torch.save(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize("make", [_text, _pickled_code, _plain_pickle, _truncated, _module])
def test_files_that_are_no_state_dicts(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "file.pt")
    with pytest.raises(SphereFaceError, match=r"file\.pt: .*expected a state dict"):
        read_state_dict(tmp_path / "file.pt")
    assert not (tmp_path / "made_by_the_file").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "a list"),
        ({}, "an empty dict"),
        ({"epoch": 3, "a": torch.ones(1)}, "entry 'epoch' is a int"),
        ({3: torch.ones(1)}, "entry 3 is a Tensor"),
    ],
)
def test_other_values(value, message, tmp_path):
    torch.save(value, tmp_path / "file.pt")
    with pytest.raises(SphereFaceError, match=message):
        read_state_dict(tmp_path / "file.pt")
