from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sphereface.caffe import load
from sphereface.inference import Predictor

NET = """input: "x" input_shape {{ dim: 1 dim: 18 dim: {height} dim: {width} }}
layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{
  num_output: 35 kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]}
  stride_w: {stride[1]} pad_h: {pad[0]} pad_w: {pad[1]} dilation: {dilation}
  weight_filler {{ type: "msra" }} bias_filler {{ type: "gaussian" std: 1 }} }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}"""


# Pixels at an edge are computed apart from the others where there are enough of them.
@pytest.mark.parametrize("images", [1, 2, 13])
@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride", "pad", "dilation"),
    [
        (7, 6, (3, 3), (1, 1), (1, 1), 1),
        (14, 12, (3, 3), (1, 1), (1, 1), 1),
        (15, 23, (3, 3), (2, 2), (1, 1), 1),
        (14, 12, (5, 5), (1, 1), (2, 2), 1),
        (13, 17, (3, 5), (2, 1), (0, 2), 1),
        (13, 17, (5, 1), (1, 3), (2, 0), 1),
        (12, 16, (3, 3), (1, 1), (2, 2), 2),
        (9, 9, (3, 3), (1, 1), (3, 3), 1),
        (3, 40, (7, 7), (1, 1), (3, 3), 1),
        (40, 3, (7, 7), (1, 2), (3, 3), 1),
        (4, 4, (3, 3), (1, 1), (1, 1), 1),
        (1, 1, (3, 3), (1, 1), (1, 1), 1),
        (5, 5, (2, 2), (1, 1), (1, 1), 1),
    ],
)
def test_padding_at_every_edge(height, width, kernel, stride, pad, dilation, images):
    text = NET.format(
        height=height, width=width, kernel=kernel, stride=stride, pad=pad, dilation=dilation
    )
    net = load(text, generator=torch.Generator().manual_seed(1))
    x = torch.randn(images, 18, height, width, generator=torch.Generator().manual_seed(2))
    weight, bias = (value.detach().double() for value in net.parameters())
    expected = F.conv2d(x.double(), weight, bias, stride, pad, dilation).relu()
    found = Predictor(net)({"x": x})["c"]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
