"""docs/journeys/old-model.md, run from its first command to its last."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from journey_page import blocks_of, run_page
from sphereface import caffe
from sphereface.weights import load_weights

NET = """name: "oldface"
input: "data" input_dim: 1 input_dim: 3 input_dim: 112 input_dim: 96
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 8 kernel_size: 16 stride: 16 } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "fc5" type: INNER_PRODUCT bottom: "conv1" top: "fc5" blobs_lr: 1 blobs_lr: 2
  inner_product_param { num_output: 24 } }
"""


def fc5(path, weights):
    """Return fc5 of a picture, in float64 and by numpy alone."""
    blobs = {name: [np.float64(blob) for blob in found] for name, found in weights.items()}
    pixels = (np.float64(cv2.imread(path)) - 127.5) / 128
    patches = pixels.reshape(7, 16, 6, 16, 3)
    kernel, bias = blobs["conv1"]
    conv1 = np.einsum("yixjc,ncij->nyx", patches, kernel) + bias[:, None, None]
    kernel, bias = blobs["fc5"]
    return kernel @ np.maximum(conv1, 0).ravel() + bias


@pytest.fixture
def model(people):
    """Write the net, its weights, people and pictures; return the weights."""
    people("people", ("Ann", "Bob", "Cleo", "Dan", "Eve", "Fay"), 4, (112, 96))
    people("others", ("Gil", "Hal", "Ida"), 5, (112, 96))
    rng = np.random.default_rng(1)
    weights = {
        "conv1": [rng.normal(0, 0.05, (8, 3, 16, 16)), rng.normal(0, 0.1, 8)],
        "fc5": [rng.normal(0, 0.1, (24, 336)), rng.normal(0, 0.1, 24)],
    }
    weights = {name: [np.float32(blob) for blob in blobs] for name, blobs in weights.items()}
    Path("deploy.prototxt").write_text(NET)
    net = caffe.load("deploy.prototxt")
    net.copy_from(weights)
    net.save("weights.caffemodel")
    Path("face.png").write_bytes(Path("people/Ann/Ann_0001.png").read_bytes())
    np.save("fc5_of_caffe.npy", fc5("face.png", weights)[None])
    return weights


def test_every_command_of_the_page(model, capfd, monkeypatch):
    blocks = blocks_of("old-model.md")
    assert [block.file for block in blocks if block.file] == [
        "features.py", "finetune_net.py", "solver.prototxt",
    ]  # fmt: skip
    run_page(blocks, capfd, monkeypatch)

    found = np.load("fc5.npy")[0]
    np.testing.assert_allclose(found, fc5("face.png", model), rtol=0, atol=1e-5)
    # What the page says of frozen layers.
    tuned = load_weights("finetuned_iter_40.caffemodel")
    np.testing.assert_array_equal(tuned["conv1"][0], model["conv1"][0])
    assert np.abs(tuned["fc5"][0] - model["fc5"][0]).max() > 1e-4
    assert tuned["fc6_people"][0].shape == (6, 24)
    assert Path("report.html").stat().st_size > 10_000
    onnxruntime = pytest.importorskip("onnxruntime")
    crop = np.full((1, 3, 112, 96), 0.5, np.float32)
    (there,) = onnxruntime.InferenceSession("net.onnx").run(None, {"data": crop})
    assert there.shape == (1, 24)
    assert np.abs(there).max() > 0.1
