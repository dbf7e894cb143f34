from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.inference import Predictor

ORL = Path(__file__).parents[1] / "golden" / "orl_sphereface4"


def orl():
    return load(ORL / "deploy.prototxt", ORL / "orl_iter_300.caffemodel")


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, 3, 112, 96)).astype(np.float32)


@pytest.mark.parametrize("channels_last", [False, True])
def test_same_numbers_as_the_net_in_double(images, channels_last, norm_error):
    with torch.no_grad():
        expected = orl().double()(torch.from_numpy(images).double(), blobs=["conv4_1"])
    found = Predictor(orl(), channels_last=channels_last)({"data": images}, ["conv4_1"])
    assert set(found) == {"fc5", "conv4_1"}
    for name, value in found.items():
        assert value.is_contiguous()
        assert not value.requires_grad
        assert norm_error(value, expected[name]) < 1e-5


def test_bfloat16_is_close(images, norm_error):
    exact = Predictor(orl())({"data": images})["fc5"]
    rounded = Predictor(orl(), bfloat16=True)({"data": images})["fc5"]
    assert rounded.dtype == torch.float32
    assert 1e-4 < norm_error(rounded, exact) < 2e-2


def test_training_layers_are_in_the_test_phase():
    net = load("""
      input: "x" input_shape { dim: 1 dim: 100 }
      layer { name: "d" type: "Dropout" bottom: "x" top: "y" }""", phase="TRAIN")  # fmt: skip
    x = torch.ones(1, 100)
    assert torch.equal(Predictor(net)({"x": x})["y"], x)


def test_labels_keep_their_precision():
    net = load("""
      input: "x" input_shape { dim: 2 dim: 3 } input: "label" input_shape { dim: 2 }
      layer { name: "s" type: "Silence" bottom: "x" }
      layer { name: "p" type: "Power" bottom: "label" top: "y" }""")
    label = torch.tensor([10571.0, 3.0])
    found = Predictor(net, bfloat16=True)({"x": torch.zeros(2, 3), "label": label})
    assert torch.equal(found["y"], label)


def test_devices():
    with pytest.raises(SphereFaceError, match='device "gpu"'):
        Predictor(orl(), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(SphereFaceError, match="no CUDA device"):
            Predictor(orl(), device="cuda")
