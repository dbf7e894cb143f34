from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.inference import Predictor
from sphereface.resources import prototxt_names, prototxt_path

SHARED = Path(__file__).parents[4] / "shared"
ORL = Path(__file__).parents[2] / "golden" / "orl_sphereface4"
# The deeper ones have nothing that sphereface_20 lacks.
CATALOGUE = [
    name
    for name in prototxt_names()
    if name.startswith("det")
    or (name.endswith("_deploy") and not {"36", "64"} & set(name.split("_")))
]


def difference(net, inputs, blobs=()):
    """Return the largest difference of a folded net, relative to the largest value."""
    with torch.inference_mode():
        expected = net.eval()(inputs, blobs=blobs)
    found = Predictor(net)(inputs, blobs)
    assert list(found) == list(expected)
    return max(((found[k] - v).abs().max() / v.abs().max()).item() for k, v in expected.items())


def random_inputs(net):
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(net.blob_shapes[name], generator=generator) for name in net.inputs}


def randomise(net):
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for layer in net.layers:
            if layer.type == "BatchNorm":
                layer.mean.normal_(0, 0.2, generator=generator)
                layer.variance.uniform_(0.5, 2, generator=generator)
                layer.scale_factor.fill_(1)


@pytest.mark.parametrize("name", CATALOGUE)
def test_packaged_nets(name):
    net = load(prototxt_path(name), generator=torch.Generator().manual_seed(1))
    randomise(net)
    assert difference(net, random_inputs(net)) < 1e-5


def test_the_catalogue_is_there():
    assert len(CATALOGUE) > 8


def test_trained_weights():
    net = load(ORL / "deploy.prototxt", ORL / "orl_iter_300.caffemodel")
    assert difference(net, random_inputs(net)) < 1e-5
    assert difference(net, random_inputs(net), ["conv2_1", "conv4_1"]) < 1e-5


@pytest.mark.parametrize("name", ["lfw/mobilefacenet", "mtcnn/det1", "mtcnn/det2", "mtcnn/det3"])
def test_released_weights(name):
    model = SHARED / f"{name}.caffemodel"
    if not model.is_file():
        pytest.skip(f"{model} is not there")
    prototxt = SHARED / f"{name}.prototxt"
    net = load(prototxt if prototxt.is_file() else model, model)
    assert difference(net, random_inputs(net)) < 1e-5


NET = """input: "x" input_shape { dim: 1 dim: 4 dim: 6 dim: 6 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "t" type: "TanH" bottom: "c" top: "t" }
layer { name: "p" type: "InnerProduct" bottom: "t" top: "p"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }"""


def net():
    return load(NET, generator=torch.Generator().manual_seed(2))


def test_other_sizes_and_batches():
    plain, predictor = net(), Predictor(net())
    # 4 x 9 has as many pixels as 6 x 6, so the inner product takes it, in another order.
    for shape in ((1, 4, 6, 6), (7, 4, 6, 6), (2, 4, 4, 9), (1, 4, 6, 6)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
        with torch.no_grad():
            expected = plain(x)["p"]
        assert torch.allclose(predictor({"x": x})["p"], expected, atol=1e-6)


def test_images_in_any_order_of_memory():
    predictor, x = Predictor(net()), torch.randn(2, 4, 6, 6)
    expected = predictor({"x": x})["p"]
    strange = torch.zeros(2, 8, 6, 7)[:, ::2, :, :6].copy_(x)
    for form in (x.contiguous(memory_format=torch.channels_last), strange):
        assert torch.equal(predictor({"x": form})["p"], expected)


def test_what_is_given_to_torch_and_to_steps():
    # The input's first reader has groups, which there is no step for; the second is a step.
    text = """input: "x" input_shape { dim: 2 dim: 4 dim: 6 dim: 6 }
    layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
      num_output: 4 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "xavier" } } }
    layer { name: "b" type: "Convolution" bottom: "x" top: "b" convolution_param {
      num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
    layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "e" }"""
    net = load(text, generator=torch.Generator().manual_seed(2))
    assert difference(net, random_inputs(net)) < 1e-5


def test_an_empty_batch():
    assert Predictor(net())({"x": torch.empty(0, 4, 6, 6)})["p"].shape == (0, 3)


def test_results_are_the_callers():
    predictor, x = Predictor(net()), torch.randn(1, 4, 6, 6)
    first = predictor({"x": x}, ["c"])
    kept = {name: value.clone() for name, value in first.items()}
    for _ in range(3):
        predictor({"x": torch.randn(1, 4, 6, 6)}, ["c"])
    assert all(torch.equal(first[name], value) for name, value in kept.items())


def test_the_input_is_left_as_it_is():
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)
    before = x.copy()
    Predictor(net())({"x": x})
    assert np.array_equal(x, before)


def test_bad_inputs_are_told():
    predictor = Predictor(net())
    with pytest.raises(SphereFaceError, match='no free input "y"'):
        predictor({"y": torch.zeros(1, 4, 6, 6)})
    with pytest.raises(SphereFaceError, match="4 channels"):
        predictor({"x": torch.zeros(1, 3, 6, 6)})
    with pytest.raises(SphereFaceError, match='no blob "nothing"'):
        predictor({"x": torch.zeros(1, 4, 6, 6)}, ["nothing"])


def test_without_folding():
    predictor = Predictor(net(), fuse=False)
    x = torch.randn(1, 4, 6, 6)
    assert predictor.folded() is None
    with torch.no_grad():
        assert torch.allclose(predictor({"x": x})["p"], net()(x)["p"], atol=1e-6)
