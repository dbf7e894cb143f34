from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("GeneralContrastiveLoss", x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 3, 2])


def layer(options: str, tops: str = 'top: "loss" top: "means"', more: str = "") -> str:
    return (
        'layer { name: "l" type: "GeneralContrastiveLoss" bottom: "d" bottom: "label" '
        f"{tops} {more} general_contrastive_loss_param {{ {options} }} }}"
    )


def test_loss_and_gradient(layer_net, rng):
    options = "positive_margin: 0.5 negative_margin: 1.5 negative_weight: 0.25"
    d = rng.uniform(0, 2, size=(4, 5))
    net = layer_net(layer(options, more="loss_weight: 3 loss_weight: 0"), d=d.shape, label=(4,))
    result = net.run({"d": d, "label": LABEL})
    p = n = 0.0
    dd = np.zeros_like(d)
    for i in range(4):
        for j in range(5):
            if j == LABEL[i]:
                p += max(0.0, d[i, j] - 0.5)
                dd[i, j] = float(d[i, j] > 0.5)
            else:
                n += max(0.0, 1.5 - d[i, j])
                dd[i, j] = -0.25 * float(d[i, j] < 1.5)
    np.testing.assert_allclose(result.tops["loss"], (p + 0.25 * n) / 4, rtol=1e-12)
    np.testing.assert_allclose(result.tops["means"], [p / 4, n / 4 / 4], rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["d"], 3 * dd / 4, rtol=1e-12)
    assert (dd == 0).any()
    assert {-0.25, 1.0} < {*dd.ravel()}


def test_defaults_and_kinks(layer_net):
    net = layer_net(layer("", tops=""), d=(1, 3), label=(1,))
    result = net.run({"d": np.array([[1.0, 0.0, 0.25]]), "label": np.array([1])})
    np.testing.assert_allclose(result.tops["l"], 0.75)  # margins 0 and 1, weight 1
    np.testing.assert_allclose(result.bottom_diffs["d"], [[0, 0, -1]])


def test_label_out_of_range(layer_net):
    net = layer_net(layer(""), d=(1, 3), label=(1,))
    with pytest.raises(SphereFaceError, match=r"label\[\d\] is 3; expected 0 to 2"):
        net.run({"d": np.ones((1, 3)), "label": np.array([3])})
    with pytest.raises(SphereFaceError, match="the same first dimension"):
        layer_net(layer(""), d=(2, 3), label=(1,))
