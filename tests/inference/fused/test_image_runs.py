from __future__ import annotations

import pytest
import torch

from sphereface.caffe import load
from sphereface.inference import Predictor

# A step of each kind; `wide` is too large to be run image by image, and what it reads is read
# again behind it.
NET = """input: "x" input_shape { dim: 1 dim: 3 dim: 21 dim: 17 }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
  num_output: 20 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
layer { name: "a_r" type: "PReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
  num_output: 20 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "b_r" type: "ReLU" bottom: "b" top: "b" }
layer { name: "s" type: "Eltwise" bottom: "a" bottom: "b" top: "s" }
layer { name: "d" type: "Convolution" bottom: "s" top: "d" convolution_param {
  num_output: 20 kernel_size: 3 pad: 1 group: 20 weight_filler { type: "msra" } } }
layer { name: "m" type: "Pooling" bottom: "d" top: "m" pooling_param {
  pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "e" type: "Scale" bottom: "m" top: "e" }
layer { name: "soft" type: "Softmax" bottom: "e" top: "soft" }
layer { name: "wide" type: "Convolution" bottom: "m" top: "wide" convolution_param {
  num_output: 600 kernel_size: 5 pad: 2 weight_filler { type: "msra" } } }
layer { name: "f" type: "Convolution" bottom: "wide" top: "f" convolution_param {
  num_output: 20 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "g" type: "Eltwise" bottom: "f" bottom: "m" top: "g" }
layer { name: "h" type: "Convolution" bottom: "g" top: "h" convolution_param {
  num_output: 7 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "p" type: "InnerProduct" bottom: "h" top: "p"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }"""


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("images", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_number_of_images_and_threads(threads, count, images):
    threads(count)
    net = load(NET, generator=torch.Generator().manual_seed(3)).eval()
    x = torch.randn(images, 3, 21, 17, generator=torch.Generator().manual_seed(4))
    blobs = ["d"] if images == 4 else []
    with torch.no_grad():
        expected = (
            load(NET, generator=torch.Generator().manual_seed(3))
            .double()
            .eval()({"x": x.double()}, blobs=blobs)
        )
    predictor = Predictor(net)
    for _ in range(2):  # what a pass leaves behind is not read by the next
        found = predictor({"x": x}, blobs)
        for name, value in expected.items():
            assert (found[name] - value).abs().max() < 1e-5 * value.abs().max()


def test_the_number_of_threads_may_change(threads):
    predictor = Predictor(load(NET, generator=torch.Generator().manual_seed(3)))
    x = torch.randn(6, 3, 21, 17, generator=torch.Generator().manual_seed(4))
    threads(2)
    first = predictor({"x": x})
    threads(1)
    assert all(torch.equal(first[name], value) for name, value in predictor({"x": x}).items())


def test_operations_one_by_one_give_the_same(threads):
    threads(2)
    predictor = Predictor(load(NET, generator=torch.Generator().manual_seed(3)))
    x = torch.randn(4, 3, 21, 17, generator=torch.Generator().manual_seed(4))
    expected = predictor({"x": x})
    for _, run in predictor.operations({"x": x}):
        run()
    assert all(torch.equal(predictor({"x": x})[name], value) for name, value in expected.items())
