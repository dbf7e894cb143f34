from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("HingeLoss", x=(3, 4), label=(3,)),
}


def layer(options: str = "", extra: str = "") -> str:
    return (
        'layer { name: "l" type: "HingeLoss" bottom: "x" bottom: "t" '
        f'top: "y" {extra} hinge_loss_param {{ {options} }} }}'
    )


def hinge(x, labels, norm, weight):
    """Loss and diff, score by score."""
    rows = x.reshape(len(x), -1)
    loss, dx = 0.0, np.zeros_like(rows)
    for i, label in enumerate(labels):
        for j, score in enumerate(rows[i]):
            sign = 1 if j == label else -1
            margin = max(0.0, 1 - sign * score)
            loss += margin**norm
            slope = 2 * margin if norm == 2 else float(margin > 0)
            dx[i, j] = -sign * slope * weight / len(x)
    return loss / len(x), dx.reshape(x.shape)


@pytest.mark.parametrize(("options", "norm"), [("", 1), ("norm: L1", 1), ("norm: L2", 2)])
@pytest.mark.parametrize("weight", [None, 3])
@pytest.mark.parametrize("label_shape", [(5,), (5, 1, 1)])
@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 2)])
def test_hinge_loss(shape, label_shape, weight, options, norm, layer_net, rng):
    x, t = 2 * rng.normal(size=shape), rng.integers(0, 4, size=label_shape)
    # margins of exactly zero: at the label and at another class
    x.reshape(5, 4)[0] = [1, 1, 1, 1]
    x.reshape(5, 4)[1] = [-1, -1, -1, -1]
    extra = "" if weight is None else f"loss_weight: {weight}"
    net = layer_net(layer(options, extra), x=shape, t=label_shape)
    loss, dx = hinge(x, t.ravel(), norm, weight or 1)
    result = net.run({"x": x, "t": t})
    np.testing.assert_allclose(result.tops["y"], loss, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12)
    assert "t" not in result.bottom_diffs


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range(label, layer_net):
    net = layer_net(layer(), x=(2, 4), t=(2,))
    with pytest.raises(SphereFaceError, match=rf"label\[\d\] is {label}; expected 0 to 3"):
        net.run({"x": np.zeros((2, 4)), "t": np.array([0, label])})


@pytest.mark.parametrize(
    ("t", "message"), [((3,), "the same first dimension"), ((2, 2), "one label a sample")]
)
def test_what_does_not_fit(t, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(), x=(2, 4), t=t)
