from __future__ import annotations

import math

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "arcface": example("CosinAddm", "m: 0.5", x=(3, 4), label=(3,)),
    "combined": example("CombinedMargin", "m1: 1 m2: 0.3 m3: 0.2", p=(3, 4), label=(3,)),
    "adacos": example("AdaCosAddmScale", "num_classes: 4", p=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 3, -1, 1])


def layer(kind: str, field: str, options: str) -> str:
    bottoms = 'bottom: "x" bottom: "label"'
    return f'layer {{ name: "l" type: "{kind}" {bottoms} top: "y" {field} {{ {options} }} }}'


def cosines(rng, rows=5, classes=4):
    return np.cos(rng.uniform(0.2, 2.9, size=(rows, classes)))


def arcface(x, m):
    y = x.copy()
    for i, label in enumerate(LABEL):
        if label >= 0:
            theta = math.acos(x[i, label])
            y[i, label] = (
                math.cos(theta + m)
                if theta < math.pi - m
                else math.cos(theta) - m * math.sin(math.pi - m)
            )
    return y


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("m", [0.5, 0.125])
def test_cosin_addm(m, phase, layer_net, rng):
    x, dy = cosines(rng), rng.normal(size=(5, 4))
    x[0, 2], x[1, 0] = math.cos(math.pi - m + 0.03), math.cos(math.pi - m - 0.03)
    text = layer("CosinAddm", "cosin_add_m_param", f"m: {m}")
    result = layer_net(text, phase, x=x.shape, label=(5,)).run({"x": x, "label": LABEL}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], arcface(x, m), rtol=1e-10)
    dx = numeric_gradient(lambda x: float((arcface(x, m) * dy).sum()), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-7)


def test_cosines_at_the_ends(layer_net):
    """1 and a little more have the angle 0 and the gradient 1; -1 is beyond pi - m."""
    x = np.array([[1.0, 0], [1.0000001, 0], [-1, 0]])
    net = layer_net(layer("CosinAddm", "cosin_add_m_param", "m: 0.5"), x=(3, 2), label=(3,))
    result = net.run({"x": x, "label": np.zeros(3)}, {"y": np.full((3, 2), 2.0)})
    expected = [math.cos(0.5), math.cos(0.5), -1 - 0.5 * math.sin(0.5)]
    np.testing.assert_allclose(result.tops["y"][:, 0], expected, rtol=1e-12)
    assert result.bottom_diffs["x"].tolist() == [[2, 2]] * 3


def test_combined_margin(layer_net, rng):
    def combined(x):
        y = x.copy()
        for i, label in enumerate(LABEL):
            if label >= 0:
                y[i, label] = math.cos(1.5 * math.acos(x[i, label]) + 0.25) - 0.125
        return y

    x, dy = cosines(rng), rng.normal(size=(5, 4))
    text = layer("CombinedMargin", "combined_margin_param", "m1: 1.5 m2: 0.25 m3: 0.125")
    net = layer_net(text, x=x.shape, label=(5,))
    result = net.run({"x": x, "label": LABEL}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], combined(x), rtol=1e-10, atol=1e-12)
    dx = numeric_gradient(lambda x: float((combined(x) * dy).sum()), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-7)
    ends = np.array([[1.0, -1], [2, 0], [-1, 0], [0, 0], [0, 0]])
    ends = np.pad(ends, ((0, 0), (0, 2)))
    result = net.run({"x": ends, "label": [0, 0, 0, 0, 0]}, {"y": dy})
    at_0, at_pi = math.cos(0.25) - 0.125, math.cos(1.5 * math.pi + 0.25) - 0.125
    np.testing.assert_allclose(result.tops["y"][:3, 0], [at_0, at_0, at_pi], rtol=1e-10)
    assert np.isfinite(result.bottom_diffs["x"]).all()


def test_ada_cos(layer_net, rng):
    """The scale follows each batch in TRAIN, and the last one in TEST."""
    text = layer("AdaCosAddmScale", "adacos_add_m_scale_param", "m: 0.25 num_classes: 4")
    net = layer_net(text, x=(5, 4), label=(5,))
    scale = math.sqrt(2) * math.log(3)
    for phase in ("TRAIN", "TRAIN", "TEST", "TEST"):
        x, dy = cosines(rng), rng.normal(size=(5, 4))
        others = x.copy()
        for i, label in enumerate(LABEL):
            if label >= 0:
                others[i, label] = 0
        followed = math.log(np.exp(scale * others).sum() / 5)
        followed /= math.cos(min(math.pi / 4, np.arccos(x).mean()))
        net.net.train(phase == "TRAIN")
        result = net.run({"x": x, "label": LABEL}, {"y": dy})
        np.testing.assert_allclose(result.tops["y"], followed * arcface(x, 0.25), rtol=1e-6)
        dx = numeric_gradient(lambda x, y: float((arcface(x, 0.25) * y).sum()), {"x": x, "y": dy})
        np.testing.assert_allclose(
            result.bottom_diffs["x"], followed * dx["x"], rtol=1e-5, atol=1e-6
        )
        if phase == "TRAIN":
            scale = followed
        assert float(net.layer.scale) == pytest.approx(scale, rel=1e-6)


def test_errors(layer_net, rng):
    text = layer("CosinAddm", "cosin_add_m_param", "")
    with pytest.raises(SphereFaceError, match="2 labels for cosines of shape"):
        layer_net(text, x=(3, 4), label=(2,))
    with pytest.raises(SphereFaceError, match=r"label\[1\] is 4; expected 0 to 3"):
        layer_net(text, x=(3, 4), label=(3,)).run({"x": np.zeros((3, 4)), "label": [0, 4, -1]})
    with pytest.raises(SphereFaceError, match="expected at least 0 and less than pi"):
        layer_net(layer("CosinAddm", "cosin_add_m_param", "m: -1"), x=(3, 4), label=(3,))
    text = layer("AdaCosAddmScale", "adacos_add_m_scale_param", "num_classes: 2")
    with pytest.raises(SphereFaceError, match="num_classes 2; expected more than 2"):
        layer_net(text, x=(3, 4), label=(3,))
