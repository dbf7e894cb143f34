from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "centres": example("CenterLoss", "num_output: 3", x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 2, 3])


def layer(options: str = "num_output: 5", more: str = "") -> str:
    return (
        'layer { name: "l" type: "CenterLoss" bottom: "x" bottom: "label" top: "loss" '
        f"{more} center_loss_param {{ {options} }} }}"
    )


@pytest.mark.parametrize("loss_weight", [1.0, 0.25])
def test_loss_and_diffs(loss_weight, layer_net, rng):
    x, c = rng.normal(size=(4, 2, 3)), rng.normal(size=(5, 6))
    net = layer_net(layer(more=f"loss_weight: {loss_weight}"), x=x.shape, label=(4,))
    result = net.set(weight=c).run({"x": x, "label": LABEL})
    flat = x.reshape(4, 6)
    np.testing.assert_allclose(result.tops["loss"], ((flat - c[LABEL]) ** 2).sum() / 8, rtol=1e-12)
    dx = loss_weight * (flat - c[LABEL]) / 4
    np.testing.assert_allclose(result.bottom_diffs["x"].reshape(4, 6), dx, rtol=1e-12)
    dc = np.zeros_like(c)  # not scaled by the loss weight
    for name in range(5):
        mine = flat[name == LABEL]
        dc[name] = (c[name] - mine).sum(0) / (1 + len(mine))
    np.testing.assert_allclose(result.param_diffs["weight"], dc, rtol=1e-12)
    assert np.abs(dc).max() > 0.1


def test_centers_are_filled_and_can_be_frozen(layer_net):
    text = layer(
        'num_output: 5 center_filler { type: "constant" value: 2 }', "param { lr_mult: 0 }"
    )
    net = layer_net(text, x=(4, 3), label=(4,))
    result = net.run({"x": np.ones((4, 3)), "label": LABEL})
    assert result.tops["loss"] == 1.5
    np.testing.assert_allclose(result.bottom_diffs["x"], -0.25)
    assert result.param_diffs == {}


def test_default_top_and_axis(layer_net, rng):
    text = layer("num_output: 5 axis: 2").replace('top: "loss"', "")
    x, c = rng.normal(size=(2, 2, 3)), rng.normal(size=(5, 3))
    net = layer_net(text, x=x.shape, label=(2, 2)).set(weight=c)
    result = net.run({"x": x, "label": LABEL.reshape(2, 2)})
    expected = ((x.reshape(4, 3) - c[LABEL]) ** 2).sum() / 8
    np.testing.assert_allclose(result.tops["l"], expected, rtol=1e-12)


def test_errors(layer_net, rng):
    with pytest.raises(SphereFaceError, match="num_output 0"):
        layer_net(layer(""), x=(4, 3), label=(4,))
    with pytest.raises(SphereFaceError, match=r"3 labels \(shape \(3,\)\); expected 4"):
        layer_net(layer(), x=(4, 3), label=(3,))
    net = layer_net(layer(), x=(4, 3), label=(4,))
    with pytest.raises(SphereFaceError, match=r"label\[0\] is 5; expected 0 to 4"):
        net.run({"x": rng.normal(size=(4, 3)), "label": np.array([5, 0, 0, 0])})
