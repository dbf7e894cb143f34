from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "plain": example("L1Loss", x=(3, 4), target=(3, 4)),
    "lengths": example("L1Loss", "l2_per_location: true", x=(2, 3, 4, 5), target=(2, 3, 4, 5)),
}
SHAPE = (3, 2, 4, 5)


def layer(options: str = "", bottoms: str = 'bottom: "x" bottom: "target"') -> str:
    return (
        f'layer {{ name: "l" type: "L1Loss" {bottoms} top: "loss" l1_loss_param {{ {options} }} }}'
    )


def absolute(x, target=0.0, plateau=0.0):
    size = np.abs(x - target)
    return size[size > plateau].sum() / len(x)


def lengths(x, target, channels=1, epsilon=1e-2, plateau=0.0):
    total = ((x - target) ** 2).sum(1) / channels
    return np.sqrt(np.where(total > plateau**2, total, 0) + epsilon).sum() / len(x)


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ("", absolute),
        ("plateau: 0.5", lambda x, target: absolute(x, target, 0.5)),
        ("l2_per_location: true", lengths),
        (
            "l2_per_location: true l2_prescale_by_channels: true epsilon: 0.25",
            lambda x, target: lengths(x, target, 2, 0.25),
        ),
        (
            "l2_per_location: true plateau: 0.75",
            lambda x, target: lengths(x, target, plateau=0.75),
        ),
        ("normalize_by_num_entries: true", lambda x, target: absolute(x, target) / 20),
    ],
)
def test_loss_and_gradient(options, loss, layer_net, rng):
    bottoms = {"x": rng.normal(size=SHAPE), "target": rng.normal(size=SHAPE)}
    result = layer_net(layer(options), x=SHAPE, target=SHAPE).run(bottoms)
    assert result.tops["loss"] == pytest.approx(loss(**bottoms), rel=1e-7)
    expected = numeric_gradient(lambda **moved: loss(**{**bottoms, **moved}), bottoms)
    for name, value in expected.items():
        np.testing.assert_allclose(result.bottom_diffs[name], value, rtol=1e-5, atol=1e-7)


def test_one_bottom_is_the_difference(layer_net, rng):
    x = rng.normal(size=SHAPE)
    result = layer_net(layer(bottoms='bottom: "x"'), x=SHAPE).run({"x": x})
    assert result.tops["loss"] == pytest.approx(absolute(x), rel=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], np.sign(x) / 3, rtol=1e-12)


def test_what_is_not_a_number_counts_as_no_difference(layer_net, rng):
    x, target = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    target[0, :, 1:] = np.nan
    options = "normalize_by_num_entries: true"
    result = layer_net(layer(options), x=SHAPE, target=SHAPE).run({"x": x, "target": target})
    valid = ~np.isnan(target)
    expected = np.abs(x - target)[valid].sum() / (valid.sum() / 2)
    assert result.tops["loss"] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(result.bottom_diffs["x"][~valid], 0)


def test_what_is_refused(layer_net):
    with pytest.raises(SphereFaceError, match="expected equal shapes"):
        layer_net(layer(), x=(2, 3), target=(2, 4))
    with pytest.raises(SphereFaceError, match="expected 4 axes"):
        layer_net(layer("l2_per_location: true"), x=(2, 3), target=(2, 3))
