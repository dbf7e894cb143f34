from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("SigmoidCrossEntropyLoss", x=(3, 4), p=(3, 4)),
    "balanced": example("SigmoidCrossEntropyBalanceLoss", x=(3, 4), cont=(3, 4)),
}


def layer(loss: str = "", extra: str = "") -> str:
    return (
        'layer { name: "l" type: "SigmoidCrossEntropyLoss" bottom: "x" bottom: "t" '
        f'top: "y" {extra} loss_param {{ {loss} }} }}'
    )


def cross_entropy(x, t, ignore, normalization, weight):
    """Loss and diff, value by value."""
    loss, diff, valid = 0.0, np.zeros(x.size), 0
    for i, (score, target) in enumerate(zip(x.ravel(), t.ravel(), strict=True)):
        if int(target) == ignore:
            continue
        valid += 1
        loss += np.logaddexp(0, score) - target * score
        diff[i] = 1 / (1 + np.exp(-score)) - target
    divisor = {"FULL": x.size, "VALID": max(valid, 1), "BATCH_SIZE": len(x), "NONE": 1}
    scale = weight / divisor[normalization]
    return loss / divisor[normalization], (diff * scale).reshape(x.shape)


@pytest.mark.parametrize(
    ("loss", "normalization"),
    [
        ("", "BATCH_SIZE"),  # unlike SoftmaxWithLoss
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: true normalization: NONE", "NONE"),
        ("normalization: FULL", "FULL"),
        ("normalization: VALID", "VALID"),
        ("normalization: BATCH_SIZE", "BATCH_SIZE"),
    ],
)
@pytest.mark.parametrize("ignore", [None, -1, 0])
@pytest.mark.parametrize("weight", [None, 2])
def test_sigmoid_cross_entropy(weight, ignore, loss, normalization, layer_net, rng):
    x, t = 3 * rng.normal(size=(4, 3, 2)), rng.uniform(0, 1, size=(4, 3, 2)).round(1)
    x[0, 0], t[0, 1], t[1, 0] = [0, 60], [1, 0], -1
    if ignore is not None:
        loss += f" ignore_label: {ignore}"
    net = layer_net(layer(loss, f"loss_weight: {weight}" if weight else ""), x=x.shape, t=(4, 6))
    expected, dx = cross_entropy(x, t, ignore, normalization, weight or 1)
    result = net.run({"x": x, "t": t.reshape(4, 6)})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)
    assert "t" not in result.bottom_diffs


def test_all_targets_ignored(layer_net, rng):
    x = rng.normal(size=(2, 3))
    net = layer_net(layer("ignore_label: 7 normalization: VALID"), x=x.shape, t=x.shape)
    result = net.run({"x": x, "t": np.full((2, 3), 7)})
    assert result.tops["y"] == 0
    assert not result.bottom_diffs["x"].any()


@pytest.mark.parametrize(
    ("t", "message"), [((4, 5), "as many targets as scores"), ((6, 4), "the same first dimension")]
)
def test_what_does_not_fit(t, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(), x=(4, 6), t=t)


def balanced(x, target):
    """HED's equation 2, sample by sample."""
    loss = 0.0
    for scores, targets in zip(x.reshape(len(x), -1), target.reshape(len(x), -1), strict=True):
        p = 1 / (1 + np.exp(-scores))
        positives, negatives = (targets == 1).sum(), (targets == 0).sum()
        if positives + negatives:
            loss -= negatives / (positives + negatives) * np.log(p[targets == 1]).sum()
            loss -= positives / (positives + negatives) * np.log(1 - p[targets == 0]).sum()
    return loss / len(x)


def test_few_positives_are_balanced(layer_net, rng):
    shape = (3, 1, 6, 5)
    x, target = rng.normal(size=shape), (rng.random(shape) < 0.2).astype(float)
    target[1] = 0.5  # neither
    target[2] = 0  # no positive: no loss
    text = (
        'layer { name: "l" type: "SigmoidCrossEntropyBalanceLoss" bottom: "x" bottom: "target"'
        ' top: "y" }'
    )
    result = layer_net(text, x=shape, target=shape).run({"x": x, "target": target})
    assert result.tops["y"] == pytest.approx(balanced(x, target), rel=1e-6)
    expected = numeric_gradient(lambda x: balanced(x, target), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], expected, rtol=1e-5, atol=1e-9)
    assert not result.bottom_diffs["x"][1:].any()
