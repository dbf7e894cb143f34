from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "axis": example("ArgMax", "axis: 1", images=True, x=(1, 4, 13, 11)),
    "top": example("ArgMax", "axis: 1 top_k: 2 out_max_val: true", x=(1, 4, 13, 11)),
    "all": example("ArgMax", "top_k: 2 out_max_val: true", x=(1, 4, 13, 11)),
}


def layer(options: str = "") -> str:
    return f'layer {{ name: "l" type: "ArgMax" bottom: "x" top: "y" argmax_param {{ {options} }} }}'


def best(scores, top_k):
    """Sort pairs (score, index) as Caffe does, largest first."""
    pairs = sorted(((s, i) for i, s in enumerate(scores)), reverse=True)[:top_k]
    return [i for _, i in pairs], [s for s, _ in pairs]


def ties(rng, *shape):
    return rng.normal(size=shape).round()


@pytest.mark.parametrize("top_k", [1, 3, 5])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_along_an_axis(axis, values, top_k, layer_net, rng):
    x = ties(rng, 5, 5, 5)
    options = f"axis: {axis} top_k: {top_k}" + (" out_max_val: true" if values else "")
    found = layer_net(layer(options), x=x.shape).run({"x": x}).tops["y"]
    expected = np.apply_along_axis(lambda row: best(row, top_k)[values], axis, x)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize(
    ("shape", "ones"),
    [((3, 8), ()), ((3, 2, 4), ()), ((3, 2, 2, 2), (1,)), ((3, 2, 2, 2, 1), (1, 1))],
)
def test_over_a_whole_sample(shape, ones, top_k, layer_net, rng):
    x = ties(rng, *shape)
    count = top_k or 1
    options = "" if top_k is None else f"top_k: {top_k}"
    indices, values = zip(*[best(row.ravel(), count) for row in x], strict=True)
    found = layer_net(layer(options), x=shape).run({"x": x}).tops["y"]
    np.testing.assert_array_equal(found, np.reshape(indices, (3, 1, count, *ones)))
    found = layer_net(layer(options + " out_max_val: true"), x=shape).run({"x": x}).tops["y"]
    expected = np.stack([np.array(indices), np.array(values)], 1)
    np.testing.assert_array_equal(found, expected.reshape(3, 2, count, *ones))


def test_no_gradient_and_exact_indices_in_half_precision(layer_net):
    net = layer_net(layer("axis: 1"), x=(1, 4000)).net
    x = torch.zeros(1, 4000, dtype=torch.bfloat16, requires_grad=True)
    y = net(x)["y"]
    assert y.item() == 3999
    assert not y.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("top_k: 0", "top_k 0 .*expected 1 to 12"),
        ("top_k: 13", "top_k 13 .*expected 1 to 12"),
        ("top_k: 4 axis: 1", "top_k 4 .*expected 1 to 3"),
        ("axis: 3", "axis 3 for a bottom"),
    ],
)
def test_what_does_not_fit(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(2, 3, 4))
