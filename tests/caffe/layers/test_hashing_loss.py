from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "classes": example("HashingLoss", "bi_margin: 4 tradeoff: 0.1", x=(4, 6), label=(4,)),
}


def layer(options: str = "bi_margin: 4 tradeoff: 0.5") -> str:
    return (
        'layer { name: "l" type: "HashingLoss" bottom: "x" bottom: "label" top: "y"'
        f" loss_weight: 2 hashing_loss_param {{ {options} }} }}"
    )


def loss(x, similar, margin=4.0, tradeoff=0.5):
    """The loss and the original's gradient, pair by pair."""
    count = len(x)
    total, dx = 0.0, np.zeros_like(x)
    for i in range(count):
        for j in range(i + 1, count):
            off = x[i] - x[j]
            d = off @ off
            sign = 1 if similar[i, j] else -1 if margin > d else 0
            total += (d if similar[i, j] else max(margin - d, 0)) / (count * (count - 1))
            dx[i] += sign * off / (count * (count - 1))
            dx[j] -= sign * off / (count * (count - 1))
    total += tradeoff * np.abs(np.abs(x) - 1).sum() / count
    rising = (x >= 1) | ((x <= 0) & (x >= -1))
    return total, dx + tradeoff / count * np.where(rising, 1, -1)


def check(net, x, label, similar):
    result = net.run({"x": x, "label": label})
    expected, dx = loss(x, similar)
    assert float(result.tops["y"]) == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], 2 * dx, rtol=1e-9, atol=1e-12)


def test_classes(layer_net, rng):
    x, label = rng.normal(size=(6, 3)), np.array([0, 1, 0, 2, 1, 1])
    x[0] = -1, 0, 1  # where the regulariser has corners
    check(layer_net(layer(), x=x.shape, label=label.shape), x, label, label[:, None] == label)


def test_codes_of_one_value(layer_net, rng):
    x, label = rng.normal(size=(6,)), np.array([0, 1, 0, 2, 1, 1])
    result = layer_net(layer(), x=x.shape, label=label.shape).run({"x": x, "label": label})
    expected, dx = loss(x[:, None], label[:, None] == label)
    assert float(result.tops["y"]) == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], 2 * dx[:, 0], rtol=1e-9, atol=1e-12)


def test_several_labels(layer_net, rng):
    x, label = rng.normal(size=(5, 3)), rng.integers(0, 2, size=(5, 4))
    check(layer_net(layer(), x=x.shape, label=label.shape), x, label, label @ label.T > 0)


def test_what_is_refused(layer_net):
    with pytest.raises(SphereFaceError, match="bi_margin or tradeoff missing"):
        layer_net(layer("bi_margin: 4"), x=(4, 3), label=(4,))
    with pytest.raises(SphereFaceError, match="a batch of 1"):
        layer_net(layer(), x=(1, 3), label=(1,))
