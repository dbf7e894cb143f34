from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sphereface.caffe import load, register_layer
from sphereface.caffe.layer import Layer
from sphereface.inspection import summarize
from sphereface.inspection.macs import layer_macs


def macs(text: str, **shapes: tuple[int, ...]) -> int:
    inputs = "".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }} '
        for name, shape in shapes.items()
    )
    return summarize(load(inputs + text)).layers[-1].macs


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        # outputs x (channels of the group x kernel)
        (
            'type: "Convolution" convolution_param { num_output: 8 kernel_size: 3 stride: 2 }',
            (2, 4, 9, 7),
            2 * 8 * 4 * 3 * (4 * 9),
        ),
        (
            'type: "Convolution" convolution_param { num_output: 8 kernel_h: 1 kernel_w: 3 '
            "group: 2 bias_term: false }",
            (2, 4, 9, 7),
            2 * 8 * 9 * 5 * (2 * 3),
        ),
        (
            'type: "DepthwiseConvolution" convolution_param { num_output: 4 kernel_size: 3 }',
            (1, 4, 9, 7),
            4 * 7 * 5 * 9,
        ),
        # inputs x (outputs of the group x kernel)
        (
            'type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 4 stride: 2 '
            "group: 2 }",
            (1, 4, 5, 3),
            4 * 5 * 3 * (3 * 16),
        ),
        ('type: "InnerProduct" inner_product_param { num_output: 7 }', (3, 4, 2, 2), 3 * 7 * 16),
        (
            'type: "InnerProduct" inner_product_param { num_output: 7 axis: 2 transpose: true }',
            (3, 4, 5),
            3 * 4 * 7 * 5,
        ),
        ('type: "PReLU"', (3, 4, 2, 2), 0),
        ('type: "Pooling" pooling_param { kernel_size: 2 }', (3, 4, 2, 2), 0),
        ('type: "BatchNorm"', (3, 4, 2, 2), 0),
    ],
)
def test_by_type(text, shape, expected):
    assert macs(f'layer {{ name: "l" bottom: "x" top: "y" {text} }}', x=shape) == expected


def test_margin_product():
    text = """layer { name: "fc6" type: "MarginInnerProduct" bottom: "x" bottom: "label" top: "fc6"
      top: "lambda" margin_inner_product_param { num_output: 10 type: QUADRUPLE } }"""
    assert macs(text, x=(4, 5, 2), label=(4,)) == 4 * 10 * 10


@pytest.mark.parametrize("static", [False, True])
def test_recurrent(static):
    steps, streams, inputs, outputs = 7, 3, 5, 4
    blobs = [torch.zeros(4 * outputs, inputs), torch.zeros(4 * outputs)]
    bottoms = [(steps, streams, inputs), (steps, streams)]
    expected = steps * streams * (4 * outputs) * (inputs + outputs)
    if static:
        blobs.append(torch.zeros(4 * outputs, 6))
        bottoms.append((streams, 6))
        expected += streams * 4 * outputs * 6
    blobs.append(torch.zeros(4 * outputs, outputs))
    layer = SimpleNamespace(type="LSTM", blobs=blobs, options=SimpleNamespace(expose_hidden=False))
    assert layer_macs(layer, bottoms, [(steps, streams, outputs)]) == expected


def test_a_layer_from_outside_tells_its_own():
    @register_layer("TestOuterProduct")
    class OuterProduct(Layer):
        def macs(self, bottoms, tops):
            return bottoms[0][0] * bottoms[0][1] ** 2

    assert macs('layer { name: "o" type: "TestOuterProduct" bottom: "x" top: "y" }', x=(3, 5)) == 75
