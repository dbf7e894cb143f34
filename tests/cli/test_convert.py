from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from sphereface.caffe import load
from sphereface.cli.main import main

GOLDEN = Path(__file__).parents[1] / "golden"
ORL = [str(GOLDEN / "orl_sphereface4" / n) for n in ("deploy.prototxt", "orl_iter_300.caffemodel")]


@pytest.fixture
def det1(mtcnn):
    """Prototxt and caffemodel of MTCNN's first net."""
    return [str(GOLDEN / "mtcnn" / "det1.prototxt"), str(mtcnn / "det1.caffemodel")]


def test_to_torch_and_back(tmp_path, capsys):
    weights, model = str(tmp_path / "net.pt"), str(tmp_path / "net.caffemodel")
    assert main(["convert", *ORL, weights]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == "left out  fc6: no such layer in the net"
    assert output[1] == f"wrote {weights}: {Path(weights).stat().st_size:,} bytes"
    assert main(["convert", ORL[0], weights, model]) == 0
    x = torch.randn(1, 3, 112, 96)
    assert torch.equal(load(ORL[0], model)(x)["fc5"], load(*ORL)(x)["fc5"])


def test_safetensors_hold_their_net(det1, tmp_path, capsys):
    whole, model = str(tmp_path / "net.safetensors"), str(tmp_path / "net.caffemodel.h5")
    assert main(["convert", *det1, whole]) == 0
    assert main(["convert", whole, whole, model]) == 0
    x = torch.randn(1, 3, 20, 20)
    assert torch.equal(load(det1[0], model)(x)["prob1"], load(*det1)(x)["prob1"])


def test_onnx_of_any_image_size(det1, tmp_path):
    path = tmp_path / "det1.onnx"
    assert main(["convert", *det1, str(path), "--free-image-size"]) == 0
    golden = np.load(GOLDEN / "mtcnn" / "nets.npz")
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(["prob1"], {"data": golden["det1/in/data"]})
    expected = golden["det1/out/prob1"]
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def test_sphere20a_with_its_classifier(tmp_path, capsys):
    """A checkpoint of 10572 classes, through the packaged training net, and back."""
    net = load("models/prototxt/sphereface_20_deploy.prototxt")
    state = {**net.state_dict(), "fc6.weight": torch.randn(512, 10572)}
    torch.save(state, tmp_path / "sphere20a.pth")
    train = ["sphereface_20_train", "--phase", "train", "--input-shape", "data=1,3,112,96"]
    model, back = str(tmp_path / "net.caffemodel"), str(tmp_path / "back.pth")
    arguments = [str(tmp_path / "sphere20a.pth"), model, "--from", "clcarwin"]
    assert main(["convert", *train, *arguments]) == 0
    assert "left out" not in capsys.readouterr().out
    assert main(["convert", *train, model, back, "--to", "clcarwin"]) == 0
    again = torch.load(back, weights_only=True)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.xyz"], 'net.xyz: the suffix ".xyz" tells no format'),
        (["there.pt"], "there.pt: exists already; give another name, or --overwrite"),
        (["net.onnx", "--free-image-size"], 'layer "fc5" (InnerProduct)'),
        (["net.pth", "--to", "clcarwin"], 'no "conv1_2.weight"'),
    ],
)
def test_errors_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.pt").write_text("mine")
    assert main(["convert", *ORL, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sphereface convert: ")
    assert message in error
    assert error.count("\n") == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
