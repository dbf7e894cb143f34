from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "plain": example("SmoothL1Loss", x=(3, 4), target=(3, 4)),
    "each": example("SmoothL1LossOHEM", tops=2, x=(3, 4, 1, 1), target=(3, 4)),
}
NAMES = ("x", "target", "inside", "outside")


def layer(count: int, options: str = "") -> str:
    bottoms = " ".join(f'bottom: "{name}"' for name in NAMES[:count])
    return (
        f'layer {{ name: "l" type: "SmoothL1Loss" {bottoms} top: "loss"'
        f" smooth_l1_loss_param {{ {options} }} }}"
    )


def loss(x, target, inside=1.0, outside=1.0, sigma=1.0):
    d = inside * (x - target)
    small = np.abs(d) < 1 / sigma**2
    each = np.where(small, (sigma * d) ** 2 / 2, np.abs(d) - 0.5 / sigma**2)
    return (outside * each).sum() / len(x)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_loss_and_gradient(count, sigma, layer_net, rng):
    shape = (3, 4, 2, 2)
    bottoms = {name: rng.normal(size=shape) for name in NAMES[:count]}
    net = layer_net(layer(count, f"sigma: {sigma}"), **dict.fromkeys(bottoms, shape))
    result = net.run(bottoms)
    assert result.tops["loss"] == pytest.approx(loss(**bottoms, sigma=sigma), rel=1e-12)
    expected = numeric_gradient(
        lambda **moved: loss(**{**bottoms, **moved}, sigma=sigma),
        {name: bottoms[name] for name in ("x", "target")},
    )
    assert set(result.bottom_diffs) == {"x", "target"}
    for name, value in expected.items():
        np.testing.assert_allclose(result.bottom_diffs[name], value, rtol=1e-5, atol=1e-8)


def test_axes_of_one_at_the_end(layer_net, rng):
    """As R-FCN's boxes beside the targets of Faster R-CNN's Python layers."""
    bottoms = {name: rng.normal(size=(3, 4)) for name in NAMES}
    wide = bottoms | {"x": bottoms["x"].reshape(3, 4, 1, 1)}
    net = layer_net(layer(4), **{name: value.shape for name, value in wide.items()})
    result = net.run(wide)
    assert result.tops["loss"] == pytest.approx(loss(**bottoms), rel=1e-12)
    plain = layer_net(layer(4), **dict.fromkeys(NAMES, (3, 4))).run(bottoms)
    for name in ("x", "target"):
        expected = plain.bottom_diffs[name].reshape(wide[name].shape)
        np.testing.assert_array_equal(result.bottom_diffs[name], expected)


def test_what_is_refused(layer_net):
    with pytest.raises(SphereFaceError, match="sigma 0; expected a positive number"):
        layer_net(layer(2, "sigma: 0"), x=(2, 3), target=(2, 3))
    with pytest.raises(SphereFaceError, match="expected equal shapes"):
        layer_net(layer(2), x=(2, 3), target=(2, 4))


@pytest.mark.parametrize(
    ("options", "normalizer"),
    [
        ("", 12),
        ("normalization: BATCH_SIZE", 3),
        ("normalization: NONE", 1),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 128", 128),
    ],
)
def test_the_loss_of_r_fcn(options, normalizer, layer_net, rng):
    shape = (3, 4, 2, 2)
    bottoms = {name: 2 * rng.normal(size=shape) for name in NAMES[:3]}
    text = (
        'layer { name: "l" type: "SmoothL1LossOHEM" bottom: "x" bottom: "target" bottom: "inside"'
        f' top: "loss" top: "each" loss_weight: 1 loss_weight: 0 loss_param {{ {options} }} }}'
    )
    result = layer_net(text, **dict.fromkeys(bottoms, shape)).run(bottoms)
    d = bottoms["inside"] * (bottoms["x"] - bottoms["target"])
    each = np.where(np.abs(d) < 1, d**2 / 2, np.abs(d) - 0.5).sum(1, keepdims=True)
    np.testing.assert_allclose(result.tops["loss"], each.sum() / normalizer, rtol=1e-12)
    np.testing.assert_allclose(result.tops["each"], each, rtol=1e-12)
    slope = bottoms["inside"] * np.clip(d, -1, 1) / normalizer
    np.testing.assert_allclose(result.bottom_diffs["x"], slope, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["target"], -slope, rtol=1e-12)
