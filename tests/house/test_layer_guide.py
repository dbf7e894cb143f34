"""The layers of docs/adding_layers.md are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from sphereface.weights import write_caffemodel_h5

GUIDE = Path(__file__).parents[2] / "docs" / "adding_layers.md"
NET = """name: "Guide"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3] } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 2 bias_term: false } }
layer { name: "l" type: "SwishGain" bottom: "fc" top: "y" swish_gain_param { gain: 3 } }
"""
REPLACED = """
import torch
net = caffe.load('input: "x" input_dim: [1, 1, 2, 2] layer { name: "p" type: "Pooling" bottom: "x"'
                 ' top: "y" pooling_param { kernel_size: 2 gain: 5 } }')
print(net(torch.arange(4.0).reshape(1, 1, 2, 2))["y"].item())
"""


def code(of: str) -> list[str]:
    section = GUIDE.read_text().partition(of)[2]
    return re.findall(r"^```\w+\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_layer_of_ones_own(tmp_path):
    layers, commands, test, *_ = code("## A layer of your own")
    (tmp_path / "my_layers.py").write_text(layers)
    (tmp_path / "test_my_layers.py").write_text(test)
    (tmp_path / "net.prototxt").write_text(NET)
    write_caffemodel_h5(tmp_path / "net.caffemodel", {"fc": [np.ones((2, 3), np.float32)]})
    lines = commands.splitlines()
    assert len(lines) == 3
    for line in lines:
        program, *words = line.split()
        assert program == "sphereface"
        run("-m", "sphereface", *words, folder=tmp_path)
    assert (tmp_path / "net.onnx").stat().st_size > 100
    assert "torch.sigmoid(" in (tmp_path / "net.py").read_text()
    run("-c", "import test_my_layers as t; t.test_swish_gain()", folder=tmp_path)


def test_in_place_of_a_layer_of_this_package(tmp_path):
    text = code("### In place of a layer of this package")[0]
    assert run("-c", text + REPLACED, folder=tmp_path) == "15.0\n"
