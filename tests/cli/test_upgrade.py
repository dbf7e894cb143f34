from __future__ import annotations

import os
from pathlib import Path

import pytest

from sphereface.cli.main import main

GOLDEN = Path(__file__).parents[1] / "golden"
OLD = 'name: "n"\ninput: "x"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 2\ninput_dim: 2\n'


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.prototxt"
    path.write_text(OLD)
    return path


def test_without_an_output_only_tells(old, capsys):
    assert main(["upgrade", str(old)]) == 0
    assert capsys.readouterr().out == (
        f"{old}: net, old format\n  input fields to an Input layer\n"
    )
    assert old.read_text() == OLD
    assert os.listdir(old.parent) == ["old.prototxt"]  # noqa: PTH208


def test_to_another_file(old, tmp_path, capsys):
    new = tmp_path / "new.prototxt"
    assert main(["upgrade", str(old), str(new)]) == 0
    assert f"written: {new}" in capsys.readouterr().out
    assert 'type: "Input"' in new.read_text()
    assert old.read_text() == OLD
    assert main(["diff", str(old), str(new)]) == 0


def test_the_input_is_not_overwritten_by_accident(old, tmp_path, capsys):
    link = tmp_path / "link.prototxt"
    link.symlink_to(old)
    for output in (old, link):
        assert main(["upgrade", str(old), str(output)]) == 2
        assert "the output is an input; write to another file" in capsys.readouterr().err
    assert main(["upgrade", str(old), str(tmp_path / "x"), "--in-place"]) == 2
    assert old.read_text() == OLD


def test_in_place(old, capsys):
    assert main(["upgrade", str(old), "--in-place"]) == 0
    assert 'type: "Input"' in old.read_text()
    before = old.stat()
    assert main(["upgrade", str(old), "--in-place"]) == 0
    assert "current format\n" in capsys.readouterr().out
    assert old.stat().st_ino == before.st_ino  # nothing to do, nothing written


def test_recorded_files(tmp_path, capsys):
    model = GOLDEN / "train" / "sgd_iter_40.caffemodel"
    assert main(["upgrade", str(model), str(tmp_path / "copy")]) == 0
    assert "binary net, current format" in capsys.readouterr().out
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
    assert main(["upgrade", str(tmp_path / "nothing")]) == 2
    assert "nothing: no such file" in capsys.readouterr().err


def test_the_prototxt_of_a_caffemodel(tmp_path, capsys):
    """Recorded snapshot of a train net; as the deploy prototxt that was written by hand."""
    model = str(GOLDEN / "orl_sphereface4" / "orl_iter_300.caffemodel")
    deploy = tmp_path / "deploy.prototxt"
    assert main(["upgrade", model, str(deploy)]) == 0
    assert capsys.readouterr().out == f"written: {deploy}, the net of {model}\n"
    assert main(["diff", str(deploy), str(GOLDEN / "orl_sphereface4" / "deploy.prototxt")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("-", "+"))] == [
        "- layer data (Input)",  # the data layer's name; its shape is the same
        "+ layer input (Input)",
    ]
    assert "dim: 112" in deploy.read_text()
