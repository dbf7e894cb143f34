from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("FocalLoss", x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 3, 0])


def layer(options: str = "", more: str = "", tops: str = 'top: "loss"') -> str:
    return (
        f'layer {{ name: "l" type: "FocalLoss" bottom: "x" bottom: "label" {tops} {more} '
        f"focal_loss_param {{ {options} }} }}"
    )


def focal(x, alpha, gamma, form, rows=(0, 1, 2, 3)):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    p = p[rows, LABEL[list(rows)]]
    weight = (alpha + p) ** gamma if form == "ONEADDP" else alpha * (1 - p) ** gamma
    return float(-(weight * np.log(p)).sum() / len(rows))


@pytest.mark.parametrize("form", ["ORIGIN", "ONEADDP"])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (1, 0), (0.5, 0.5)])
def test_loss_and_gradient(alpha, gamma, form, layer_net, rng):
    x = rng.normal(size=(4, 5))
    options = f"type: {form} alpha: {alpha} gamma: {gamma}"
    net = layer_net(layer(options, "loss_weight: 3"), x=x.shape, label=(4,))
    result = net.run({"x": x, "label": LABEL})
    assert float(result.tops["loss"]) == pytest.approx(focal(x, alpha, gamma, form), rel=1e-10)
    dx = numeric_gradient(lambda x: focal(x, alpha, gamma, form), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], 3 * dx, atol=1e-8)


def test_defaults_ignored_labels_and_the_softmax(layer_net, rng):
    x = rng.normal(size=(4, 5))
    text = layer(more="loss_param { ignore_label: 3 }", tops='top: "loss" top: "p"')
    result = layer_net(text, x=x.shape, label=(4,)).run({"x": x, "label": LABEL})
    expected = focal(x, 0.25, 2, "ORIGIN", (0, 1, 3))
    assert float(result.tops["loss"]) == pytest.approx(expected, rel=1e-10)
    assert not result.bottom_diffs["x"][2].any()
    softmax = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(result.tops["p"], softmax, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_certain_and_impossible_labels(gamma, layer_net):
    """Probabilities of 1 and 0 in float64; the logarithm is capped as SoftmaxWithLoss has it."""
    x = np.array([[1000.0, 0], [0, 1000.0]])
    net = layer_net(layer(f"alpha: 1 gamma: {gamma}"), x=(2, 2), label=(2,))
    result = net.run({"x": x, "label": [0, 0]})
    assert float(result.tops["loss"]) == pytest.approx(87.3365 / 2, rel=1e-6)
    np.testing.assert_allclose(result.bottom_diffs["x"], [[0, 0], [-0.5, 0.5]], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("type: LINEAR", "type: LINEAR; expected ORIGIN or ONEADDP"),
        ("alpha: 0", "alpha 0, gamma 2; expected alpha above 0"),
        ("gamma: -1", "gamma -1; expected alpha above 0, gamma at least 0"),
    ],
)
def test_impossible_options(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(2, 3), label=(2,))
