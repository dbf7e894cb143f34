from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest

from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

T, N, C = 4, 3, 3
FITTING = {
    "CtcLoss": "blank_label: 2 alphabet_size: 3 time_step: 4",
    "WarpCTCLoss": "blank_index: 2",
}


def layer(kind: str, options: str, fields: str = "") -> str:
    return (
        f'layer {{ name: "l" type: "{kind}" bottom: "x" bottom: "label" top: "y" {fields}'
        f" ctc_loss_param {{ {options} }} }}"
    )


def losses(x, labels, blank):
    """Minus the logarithm of the probability of all paths that collapse to the labels."""
    found = []
    for n, row in enumerate(labels):
        p = np.exp(x[:, n]) / np.exp(x[:, n]).sum(1, keepdims=True)
        wanted = [label for label in row if label != blank]
        probability = sum(
            np.prod([p[t, label] for t, label in enumerate(path)])
            for path in product(range(C), repeat=T)
            if [label for label, _ in groupby(path) if label != blank] == wanted
        )
        found.append(-np.log(probability) if probability else np.inf)
    return np.array(found)


@pytest.mark.parametrize("kind", FITTING)
@pytest.mark.parametrize("shape", [(N, 4), (N, 4, 1, 1)])
def test_loss_and_gradient(kind, shape, layer_net, rng):
    labels = np.array([[0, 1, 2, 2], [2, 1, 2, 1], [2, 2, 2, 2]])  # blanks anywhere
    x = rng.normal(size=(T, N, C))
    net = layer_net(layer(kind, FITTING[kind], "loss_weight: 3"), x=x.shape, label=shape)
    result = net.run({"x": x, "label": labels.reshape(shape)})
    assert float(result.tops["y"]) == pytest.approx(losses(x, labels, 2).mean(), rel=1e-10)
    dx = numeric_gradient(lambda x: losses(x, labels, 2).mean(), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], 3 * dx, atol=1e-8)
    assert "label" not in result.bottom_diffs


def test_warp_ctc_leaves_out_what_has_no_path(layer_net, rng):
    """Of three equal labels two blanks must stand between: 5 steps."""
    labels = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [2, 1, 0, 2]])  # the blank is 0
    x = rng.normal(size=(T, N, C))
    given = {"x": x, "label": labels}
    result = layer_net(layer("WarpCTCLoss", ""), x=x.shape, label=labels.shape).run(given)
    each = losses(x, labels, 0)
    assert np.isinf(each).tolist() == [True, False, False]
    assert float(result.tops["y"]) == pytest.approx(each[1:].mean(), rel=1e-10)
    dx = numeric_gradient(lambda x: losses(x, labels, 0)[1:].mean(), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-8)
    text = layer("CtcLoss", "blank_label: 0")
    assert np.isinf(float(layer_net(text, x=x.shape, label=labels.shape).run(given).tops["y"]))


def test_one_label_an_image(layer_net, rng):
    x, label = rng.normal(size=(T, N, C)), np.array([1, 0, 2])
    net = layer_net(layer("WarpCTCLoss", ""), x=x.shape, label=label.shape)
    found = net.run({"x": x, "label": label}).tops["y"]
    assert float(found) == pytest.approx(losses(x, label[:, None], 0).mean(), rel=1e-10)


@pytest.mark.parametrize(
    ("kind", "options", "shapes", "message"),
    [
        ("CtcLoss", "", {}, "no blank_label"),
        ("CtcLoss", "blank_label: 3", {}, "blank_label 3; expected 0 to 2"),
        ("CtcLoss", "blank_label: 0 time_step: 5", {}, "time_step 5 for scores .* expected 4"),
        ("WarpCTCLoss", "blank_index: -1", {}, "blank_index -1; expected 0 to 2"),
        ("WarpCTCLoss", "", {"x": (T, N)}, "scores of shape"),
        ("WarpCTCLoss", "", {"label": (T, N)}, r"expected \(3, labels\)"),
    ],
)
def test_what_does_not_fit(kind, options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(kind, options), **({"x": (T, N, C), "label": (N, 4)} | shapes))
