"""Prototxts as files, and a small net that several tests take apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface import pycaffe as caffe

GOLDEN = Path(__file__).parents[1] / "golden"

SMALL = """
name: "small"
force_backward: %s
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 6, 5] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3
    weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "left" type: "InnerProduct" bottom: "conv" top: "left"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "right" type: "InnerProduct" bottom: "conv" top: "right"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "sum" }
"""


@pytest.fixture
def write_net(tmp_path):
    """Return a function that writes a prototxt and returns its path as a string."""

    def write(text, name="net.prototxt"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def small_net(write_net):
    """Return a function that builds the small net, with force_backward or not."""

    def build(force_backward=True, phase=caffe.TEST):
        return caffe.Net(write_net(SMALL % str(force_backward).lower()), phase)

    return build


@pytest.fixture
def small_numbers():
    """Return the float64 values and gradients of the small net from its parameters."""
    from reference.convolution import convolve, convolve_gradients, relu

    def compute(net, x, top_diff=None):
        p = {k: [np.array(b.data, float) for b in v] for k, v in net.params.items()}
        before = convolve(x, *p["conv"])
        conv = relu(before)
        rows = conv.reshape(len(x), -1)
        numbers = {"conv": conv}
        for name in ("left", "right"):
            numbers[name] = rows @ p[name][0].T + p[name][1]
        numbers["sum"] = numbers["left"] + numbers["right"]
        if top_diff is None:
            return numbers, {}
        diff = np.asarray(top_diff, float)
        dconv = (diff @ p["left"][0] + diff @ p["right"][0]).reshape(conv.shape)
        dx, dweight, dbias = convolve_gradients(x, p["conv"][0], dconv * (before > 0))
        return numbers, {
            "data": dx,
            # In place: what is left in the end is the diff below the ReLU.
            "conv": dconv * (before > 0),
            "conv/0": dweight,
            "conv/1": dbias,
            "left/0": diff.T @ rows,
            "left/1": diff.sum(0),
        }

    return compute


@pytest.fixture
def image(rng):
    """A batch for the small net."""
    return rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
