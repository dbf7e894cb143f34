"""Where a command takes a net or weights, whatever form they have."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from sphereface.caffe import list_layers, registry
from sphereface.cli.main import main
from sphereface.weights import write_caffemodel_h5

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


LAYER = """
import caffe


class Double(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff
"""
NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3] } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 2 bias_term: false } }
layer { name: "py" type: "Python" bottom: "fc" top: "y"
  python_param { module: "doubling_of_the_test" layer: "Double" } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "fc" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0 lr_policy: "fixed" max_iter: 1 solver_mode: CPU
snapshot_after_train: false
"""


@pytest.fixture
def doubling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("doubling_of_the_test.py").write_text(LAYER)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    write_caffemodel_h5("w.h5", {"fc": [np.ones((2, 3), np.float32)]})
    np.save("x.npy", np.ones((1, 3), np.float32))
    yield
    sys.modules.pop("doubling_of_the_test", None)


LAYERS = """
import sphereface.caffe as caffe


def doubled(x):
    return 2 * x


@caffe.register_layer("DoublingOfTheTest")
class Doubling(caffe.Layer):
    function = staticmethod(doubled)
"""


@pytest.fixture
def layer_file(doubling, monkeypatch):
    """doubling_layers.py registers a type, which the net uses in place of the Python layer."""
    list_layers()
    monkeypatch.setattr(registry, "LAYERS", dict(registry.LAYERS))
    Path("doubling_layers.py").write_text(LAYERS)
    own = NET.replace('"Python"', '"DoublingOfTheTest"')
    own = re.sub(r"python_param \{.*\}", "}", own)
    Path("deploy.prototxt").write_text(own.partition('layer { name: "loss"')[0])
    own = own.replace('"Input"', '"DummyData"').replace("input_param", "dummy_data_param")
    Path("net.prototxt").write_text(own)
    yield
    sys.modules.pop("doubling_layers", None)


@pytest.mark.parametrize(
    "command",
    [
        "summary deploy.prototxt",
        "draw deploy.prototxt net.dot",
        "test net.prototxt w.h5 --iterations 1",
        "run deploy.prototxt w.h5 x.npy",
        "convert deploy.prototxt w.h5 w.safetensors",
        "port deploy.prototxt",
        "diff deploy.prototxt net.prototxt",
        "upgrade net.prototxt new.prototxt",
        "train --solver solver.prototxt --gpu none --ranks 2",
    ],
)
def test_layers_of_a_file_that_the_user_names(layer_file, command, capfd):
    words = command.split()
    if words[0] not in ("diff", "upgrade"):  # which build no net
        assert main(words) == 2
        error = capfd.readouterr().err
        assert 'layer "py" (DoublingOfTheTest): unknown layer type "DoublingOfTheTest"' in error
        assert "--layers FILE.py" in error or words[0] == "train"
    assert main([*words, "--layers", "doubling_layers.py"]) == (words[0] == "diff")
    assert "doubling_layers" in sys.modules


@pytest.mark.parametrize(
    "command",
    [
        "summary net.prototxt",
        "draw net.prototxt net.dot",
        "time net.prototxt --iterations 1",
        "test net.prototxt w.h5 --iterations 1 --input-shape x=1,3",
        "run net.prototxt w.h5 x.npy",
        "convert net.prototxt w.h5 w.safetensors",
        "train --solver solver.prototxt --gpu none",
    ],
)
def test_python_layers_are_run_when_allowed(doubling, command, capsys):
    name, *rest = command.split()
    allow = ["--allow-python", "doubling_of_the_test"]
    if name in ("test", "train"):  # fed by nothing: the input is made by a layer
        text = Path("net.prototxt").read_text()
        Path("net.prototxt").write_text(
            text.replace('"Input"', '"DummyData"').replace("input_param", "dummy_data_param")
        )
        rest = [word for word in rest if not word.startswith(("x=", "--input-shape"))]
    assert main([name, *rest]) == 2
    error = capsys.readouterr().err
    assert "if you trust its code: --allow-python doubling_of_the_test" in error
    assert "doubling_of_the_test" not in sys.modules
    assert main([name, *rest, *allow]) == 0
    assert "doubling_of_the_test" in sys.modules
    assert "caffe" not in sys.modules


def test_all_problems_of_a_net_are_told_in_one_go(tmp_path, capsys):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" include { phase: TRAIN } }\n'
        'layer { name: "a" type: "Strangest" bottom: "x" top: "a" strangest_param { b: 1 } }\n'
        'layer { name: "b" type: "ReLU" bottom: "a" top: "b" relu_parm { } }\n'
        'layer { name: "c" type: "Strangest" bottom: "b" top: "c" }\n'
    )
    assert main(["summary", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"sphereface summary: {path}: 4 problems\n"
        '  unknown layer type "Strangest"; a layer of your own is added with --layers FILE.py'
        " (docs/adding_layers.md)\n"
        f'    {path}:2: layer "a" (Strangest)\n'
        f'    {path}:4: layer "c" (Strangest)\n'
        '  unknown field "relu_parm"; did you mean "relu_param"?\n'
        f'    {path}:3:53: layer "b" (ReLU)\n'
        '  unknown bottom blob "x" at index 0; expected the name of a top of an earlier layer; '
        f'{path}:1: layer "x" (Input) makes it, which phase TEST leaves out: '
        "include { phase: TRAIN }\n"
        f'    {path}:2: layer "a" (Strangest)\n'
    )
    assert main(["diff", str(path), str(path)]) == 2
    told = capsys.readouterr().err
    assert 'unknown layer type "Strangest", with fields of its own' in told
    assert 'unknown field "strangest_param"' not in told
