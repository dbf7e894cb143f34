from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.caffe.load import load_graph
from sphereface.errors import SphereFaceError
from sphereface.proto import text

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-5

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "label" type: "Input" top: "label" include { phase: TRAIN }
  input_param { shape { dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
  include { phase: TRAIN } }
layer { name: "extra" type: "Split" bottom: "fc" top: "a" top: "b" include { min_level: 2 } }
layer { name: "staged" type: "Split" bottom: "fc" top: "c" include { stage: "s" stage: "t" } }
"""


def test_a_path_a_text_and_a_message_are_the_same_net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    for source in (path, str(path), NET, text.parse(NET).message):
        net = load(source)
        assert [layer.name for layer in net.layers] == ["data", "fc"]
        assert net.outputs == ("fc",)


def test_phase_level_and_stages_choose_the_layers():
    assert [node.name for node in load_graph(NET, "TRAIN").nodes] == ["data", "label", "fc", "loss"]
    assert [node.name for node in load_graph(NET, level=2).nodes] == ["data", "fc", "extra"]
    assert [node.name for node in load_graph(NET, stages=["t", "s"]).nodes][-1] == "staged"
    assert load(NET, phase="TRAIN").training
    assert not load(NET).training
    with pytest.raises(SphereFaceError, match='phase \'train\'; expected "TRAIN" or "TEST"'):
        load(NET, phase="train")


def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET.replace('bottom: "data"', 'bottom: "dat"'))
    with pytest.raises(SphereFaceError, match=r'net\.prototxt:5: layer "fc" .*did you mean "data"'):
        load(path)


def test_old_formats_load():
    net = load("""
        input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
                 convolution_param { num_output: 2 kernel_size: 3 } }""")
    assert net.layer("conv").lr_mult == [1.0, 2.0]
    assert net.blob_shapes["conv"] == (1, 2, 6, 6)


def test_input_shapes_override_the_file():
    net = load(NET, input_shapes={"data": (7, 5)})
    assert net.layer("fc").weight.shape == (4, 5)
    assert net.blob_shapes == {"data": (7, 5), "fc": (7, 4)}
    with pytest.raises(SphereFaceError, match=r'input_shapes: net .* no input "dta"; .*"data"'):
        load(NET, input_shapes={"dta": (7, 5)})


def convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """3 x 3, stride 2, pad 1."""
    xp = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    y = np.zeros((len(x), len(w), rows, columns))
    for i, j in np.ndindex(rows, columns):
        patch = xp[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        y[:, :, i, j] = patch.reshape(len(x), -1) @ w.reshape(len(w), -1).T
    return y + b[:, None, None]


def test_a_caffemodel_trained_by_caffe(rng):
    """SphereFace-4: the recorded weights, run against float64 numpy."""
    folder = GOLDEN / "orl_sphereface4"
    net = load(folder / "deploy.prototxt", folder / "orl_iter_300.caffemodel")
    assert list(net.load_report.skipped) == ["fc6"]
    assert not net.load_report.left
    x = rng.uniform(-1, 1, size=(1, 3, 112, 96))
    expected = x
    for stage in range(1, 5):
        w, b = (blob.detach().double().numpy() for blob in net.layer(f"conv{stage}_1").blobs)
        slope = net.layer(f"relu{stage}_1").weight.detach().double().numpy()[:, None, None]
        expected = convolve(expected, w, b)
        expected = np.where(expected > 0, expected, slope * expected)
    w, b = (blob.detach().double().numpy() for blob in net.layer("fc5").blobs)
    expected = expected.reshape(1, -1) @ w.T + b
    with torch.no_grad():
        found = net(torch.from_numpy(x.astype(np.float32)))["fc5"].numpy()
    assert np.linalg.norm(found - expected) < TOLERANCE * np.linalg.norm(expected)
    assert np.linalg.norm(expected) > 1
