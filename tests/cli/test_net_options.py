"""Where a command takes a net or weights, whatever form they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.cli.main import main

MODEL = str(Path(__file__).parents[1] / "golden" / "train" / "sgd_iter_40.caffemodel")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["summary", MODEL], "fc5"),
        (["draw", MODEL, "net.dot"], "net.dot"),
        (["port", MODEL], "class Digits(nn.Module)"),
        (["convert", MODEL, MODEL, "net.onnx"], "wrote net.onnx"),
        (["convert", MODEL, MODEL, "net.safetensors"], "wrote net.safetensors"),
        (["run", MODEL, MODEL, "x.npy"], "fc5 (2, 8)"),
        (["time", MODEL, "--iterations", "1"], "fc5"),
    ],
)
def test_a_caffemodel_in_the_place_of_a_prototxt(command, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((2, 1, 8, 8), np.float32))
    assert main(command) == 0
    assert expected in capsys.readouterr().out


def test_every_format_of_weights_gives_the_same_blob(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8))
    printed = set()
    for name in ("net.pt", "net.safetensors", "net.caffemodel.h5", "net.caffemodel"):
        assert main(["convert", MODEL, MODEL, name]) == 0
        Path(name).rename("weights")
        capsys.readouterr()
        assert main(["run", MODEL, "weights", "x.npy"]) == 0
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1
    assert "max 0 " not in printed.pop()
