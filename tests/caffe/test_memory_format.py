from __future__ import annotations

import torch

from sphereface.caffe import load
from sphereface.caffe.memory_format import arrange_kernels

NET = """input: "image" input_shape { dim: [1, 4, 5, 5] }
input: "clip" input_shape { dim: [1, 2, 5, 5, 5] }
layer { name: "flat" type: "Convolution" bottom: "image" top: "a" convolution_param {
  num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "deep" type: "Convolution" bottom: "clip" top: "b" convolution_param {
  num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }"""


def test_kernels_of_images_alone_change_their_order():
    net = load(NET)
    before = {name: blob.detach().clone() for name, blob in net.named_parameters()}
    arrange_kernels(net, torch.channels_last)
    flat, deep = net.layers[-2].weight, net.layers[-1].weight
    assert flat.stride() == (36, 1, 12, 4)
    assert deep.is_contiguous()
    assert all(torch.equal(blob, before[name]) for name, blob in net.named_parameters())
