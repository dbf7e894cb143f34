from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "default": example("MVN", images=True, x=(1, 4, 13, 11)),
    "mean_across": example(
        "MVN", "across_channels: true normalize_variance: false", images=True, x=(1, 4, 13, 11)
    ),
}


def layer(options: str = "", top: str = "y") -> str:
    param = f"mvn_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "MVN" bottom: "x" top: "{top}" {param} }}'


def mvn(x, dy, first_axis, eps):
    """y and dx; dx as Caffe has it, with the deviation + eps for the deviation."""
    shape = (*x.shape[:first_axis], -1)
    rows, diffs = x.reshape(shape), dy.reshape(shape)
    centred = rows - rows.mean(-1, keepdims=True)
    d_centred = diffs - diffs.mean(-1, keepdims=True)
    if eps is None:
        return centred.reshape(x.shape), d_centred.reshape(x.shape)
    divisor = np.sqrt((centred**2).mean(-1, keepdims=True)) + eps
    y = centred / divisor
    dx = (d_centred - y * (y * diffs).mean(-1, keepdims=True)) / divisor
    return y.reshape(x.shape), dx.reshape(x.shape)


CASES = {
    "": (2, 1e-9),
    "across_channels: true": (1, 1e-9),
    "eps: 0.5": (2, 0.5),
    "across_channels: true eps: 0.25": (1, 0.25),
    "normalize_variance: false": (2, None),
    "normalize_variance: false across_channels: true": (1, None),
}


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4)])
@pytest.mark.parametrize("options", CASES)
def test_mvn(shape, options, layer_net, rng):
    x, dy = rng.normal(3, 2, size=shape), rng.normal(size=shape)
    y, dx = mvn(x, dy, *CASES[options])
    result = layer_net(layer(options, top="x"), x=shape).run({"x": x}, {"x": dy})
    np.testing.assert_allclose(result.tops["x"], y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_channels_of_one_value_become_0(shape, layer_net, rng):
    x = rng.normal(size=shape)
    result = layer_net(layer(), x=shape).run({"x": x}, {"y": rng.normal(size=shape)})
    assert not result.tops["y"].any()
    assert not result.bottom_diffs["x"].any()


def test_a_row_of_two_axes(layer_net, rng):
    x, dy = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    y, dx = mvn(x, dy, 1, 1e-9)
    result = layer_net(layer("across_channels: true"), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-12)


def test_a_constant_channel_has_a_finite_gradient(layer_net, rng):
    x, dy = np.full((1, 1, 2, 2), 5.0), rng.normal(size=(1, 1, 2, 2))
    result = layer_net(layer("eps: 0.5"), x=x.shape).run({"x": x}, {"y": dy})
    assert not result.tops["y"].any()
    np.testing.assert_allclose(result.bottom_diffs["x"], (dy - dy.mean()) / 0.5, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, rng):
    net = load('input: "x" input_shape { dim: 2 dim: 2 dim: 3 dim: 3 } ' + layer())
    x = torch.tensor(rng.normal(300, 50, size=(2, 2, 3, 3)), dtype=dtype)
    x[0, 0] = 7
    y = net(x)["y"]
    assert y.dtype == dtype
    expected = mvn(x.double().numpy(), np.zeros(x.shape), 2, 1e-9)[0]
    np.testing.assert_allclose(y.double().numpy(), expected, atol=0.01)


def test_five_axes_are_too_many(layer_net):
    with pytest.raises(SphereFaceError, match="expected at most 4 axes"):
        layer_net(layer(), x=(1, 1, 1, 2, 2))
