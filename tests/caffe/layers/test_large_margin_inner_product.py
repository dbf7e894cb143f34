from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "quadruple": example(
        "LargeMarginInnerProduct", "num_output: 3 type: QUADRUPLE", x=(3, 4), label=(3,)
    ),
}

LABEL = np.array([0, 4, 2, 2, 1, 3])


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "LargeMarginInnerProduct" bottom: "x" bottom: "label" top: "y" '
        f'top: "lambda" largemargin_inner_product_param {{ num_output: 5 {options} }} }}'
    )


def l_softmax(x, weight, lam, m):
    y = x @ weight.T
    if m == 1:
        return y
    rows = np.arange(len(x))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(weight[LABEL], axis=1)
    theta = np.arccos(y[rows, LABEL] / norms)
    k = np.floor(m * theta / np.pi)
    psi = (-1) ** k * np.cos(m * theta) - 2 * k
    y[rows, LABEL] = (norms * psi + lam * y[rows, LABEL]) / (1 + lam)
    return y


@pytest.mark.parametrize(
    ("kind", "m"), [("SINGLE", 1), ("DOUBLE", 2), ("TRIPLE", 3), ("QUADRUPLE", 4)]
)
def test_forward_and_true_gradient(kind, m, layer_net, rng):
    x, w, dy = rng.normal(size=(6, 8)), rng.normal(size=(5, 8)), rng.normal(size=(6, 5))
    # All angles from 25 to 155 degrees, so that every piece of psi is used.
    for row, degrees in enumerate((25, 50, 80, 100, 125, 155)):
        axis = w[LABEL[row]] / np.linalg.norm(w[LABEL[row]])
        side = x[row] - x[row] @ axis * axis
        angle = np.radians(degrees)
        x[row] = 3 * (np.cos(angle) * axis + np.sin(angle) * side / np.linalg.norm(side))
    net = layer_net(layer(f"type: {kind} base: 0.75"), x=x.shape, label=(6,))
    result = net.set(weight=w).run({"x": x, "label": LABEL}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], l_softmax(x, w, 0.75, m), rtol=1e-10)
    expected = numeric_gradient(
        lambda x, weight: (dy * l_softmax(x, weight, 0.75, m)).sum(), {"x": x, "weight": w}
    )
    np.testing.assert_allclose(result.bottom_diffs["x"], expected["x"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        result.param_diffs["weight"], expected["weight"], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_array_equal(net.layer.weight.detach().numpy(), w)


def test_lambda_is_annealed_in_train(layer_net, rng):
    net = layer_net(layer("base: 100 gamma: 1 lambda_min: 30"), x=(6, 2), label=(6,))
    bottoms = {"x": rng.normal(size=(6, 2)), "label": LABEL}
    seen = [net.run(bottoms).tops["lambda"].item() for _ in range(3)]
    np.testing.assert_allclose(seen, [50, 100 / 3, 30], rtol=1e-6)
    net.net.eval()
    assert net.run(bottoms).tops["lambda"] == 30
    assert net.net.state_dict()["l.iteration"] == 3


@pytest.mark.parametrize("m", ["DOUBLE", "TRIPLE", "QUADRUPLE"])
def test_zero_rows_have_no_gradient(m, layer_net, rng):
    x, w = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    x[0] = 0
    w[2] = 0
    net = layer_net(layer(f"type: {m}"), x=(6, 3), label=(6,)).set(weight=w)
    dy = np.zeros((6, 5))
    dy[np.arange(6), LABEL] = rng.normal(size=6)
    result = net.run({"x": x, "label": LABEL}, {"y": dy})
    assert (result.tops["y"][0] == 0).all()
    assert (result.tops["y"][2:4, 2] == 0).all()
    for diff in (result.bottom_diffs["x"], result.param_diffs["weight"]):
        assert np.isfinite(diff).all()
        assert np.abs(diff).max() > 0.1


def test_label_out_of_range(layer_net, rng):
    net = layer_net(layer(""), x=(6, 2), label=(6,))
    with pytest.raises(SphereFaceError, match=r"label\[5\] is 7; expected 0 to 4"):
        net.run({"x": rng.normal(size=(6, 2)), "label": np.array([0, 1, 2, 3, 4, 7])})
