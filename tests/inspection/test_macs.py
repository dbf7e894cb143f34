from __future__ import annotations

import pytest

from sphereface.caffe import load, register_layer
from sphereface.caffe.layer import Layer
from sphereface.inspection import summarize


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
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent(kind, static):
    steps, streams, inputs, outputs, constant = 7, 3, 5, 4, 6
    bottoms = {"x": (steps, streams, inputs), "cont": (steps, streams)}
    gates = 4 if kind == "LSTM" else 1
    expected = steps * streams * gates * outputs * (inputs + outputs)
    if kind == "RNN":
        expected += steps * streams * outputs * outputs  # from the hidden state to the output
    if static:
        bottoms["s"] = (streams, constant)
        expected += streams * gates * outputs * constant
    names = " ".join(f'bottom: "{name}"' for name in bottoms)
    text = (
        f'layer {{ name: "r" type: "{kind}" {names} top: "y" recurrent_param {{ num_output: 4 }} }}'
    )
    assert macs(text, **bottoms) == expected


def test_a_layer_from_outside_tells_its_own():
    @register_layer("TestOuterProduct")
    class OuterProduct(Layer):
        def macs(self, bottoms, tops):
            return bottoms[0][0] * bottoms[0][1] ** 2

    assert macs('layer { name: "o" type: "TestOuterProduct" bottom: "x" top: "y" }', x=(3, 5)) == 75
