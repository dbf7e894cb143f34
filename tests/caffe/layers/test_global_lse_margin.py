from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe.layers.global_lse_margin import mean_shift
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "scaled": example("GlobalLSEMargin", x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 3, 1, 1, 0])


def layer(options: str = "", tops: str = 'top: "y" top: "s"', bottoms: str = "", more: str = ""):
    param = f"scale_param {{ {options} }}" if options else ""
    bottoms = f'bottom: "x" bottom: "label" {bottoms}'
    return f'layer {{ name: "l" type: "GlobalLSEMargin" {bottoms} {tops} {more} {param} }}'


def shifted(values, mode, steps):
    """The mode by hand, as the fork's loop has it."""
    for _ in range(steps):
        near = [v for v in values if abs(v - mode) < 0.1]
        if not near:
            mode = float(np.mean(values))
            near = [v for v in values if abs(v - mode) < 0.1] or [mode]
        moved = float(np.mean(near))
        if abs(moved - mode) < 0.001:
            return moved
        mode = moved
    return mode


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("start", [0.0, 0.5, 7.0])
def test_mean_shift(start, steps, rng):
    values = np.concatenate([rng.normal(0.6, 0.03, size=12), rng.normal(0, 0.2, size=9)])
    found = mean_shift(torch.tensor(values), torch.tensor(start).double(), steps)
    assert float(found) == pytest.approx(shifted(values, start, steps), rel=1e-12)


@pytest.mark.parametrize("apart", [0.25, 1.5])
@pytest.mark.parametrize("norms", [False, True])
def test_margin_and_gradient(norms, apart, layer_net, rng):
    """Of labels near the others the margin is below 0, and nothing is taken away."""
    text = layer("filler { value: 8 }", bottoms='bottom: "n"' if norms else "")
    shapes = {"x": (6, 4), "label": (6,), **({"n": (6, 1)} if norms else {})}
    net = layer_net(text, **shapes)
    margin, rows = 0.0, np.arange(6)
    for _ in range(3):
        x, dy = rng.uniform(-0.3, 0.5, size=(6, 4)), rng.normal(size=(6, 4))
        x[rows, LABEL] += apart
        n = rng.uniform(5, 9, size=(6, 1)) if norms else np.full((6, 1), 8.0)
        given = {"x": x, "label": LABEL, **({"n": n} if norms else {})}
        result = net.run(given, {"y": dy})
        others = np.exp(n * x)
        others[rows, LABEL] = 0
        lse = np.log(others.sum(1)) / n[:, 0]
        margins = x[rows, LABEL] - lse
        if margin == 0:
            margin = shifted(margins, float(margins.mean()), 20)
        else:
            margin = 0.9 * margin + 0.1 * shifted(margins, margin, 1)
        moved = x.copy()
        moved[rows, LABEL] -= max(margin, 0)
        np.testing.assert_allclose(result.tops["y"], n * moved, rtol=1e-5)
        np.testing.assert_allclose(result.bottom_diffs["x"], n * dy, rtol=1e-9)
        if norms:
            dn = (dy * moved).sum(1, keepdims=True)
            np.testing.assert_allclose(result.bottom_diffs["n"], dn, rtol=1e-5)
        else:
            np.testing.assert_allclose(
                result.param_diffs["weight"], [(dy * moved).sum()], rtol=1e-4
            )
        largest = np.where(others == 0, -1, x).max(1).mean()
        means = [n.mean(), x[rows, LABEL].mean(), lse.mean(), largest, margin]
        np.testing.assert_allclose(result.tops["s"], means, rtol=1e-5)
    assert (margin > 0) == (apart > 1)
    net.net.eval()
    result = net.run(given)
    assert float(net.layer.margin) == pytest.approx(margin, rel=1e-5)
    np.testing.assert_allclose(result.tops["s"][4], margin, rtol=1e-5)


def test_multipliers_limits_and_errors(layer_net, rng):
    built = layer_net(layer(tops='top: "y"'), x=(6, 4), label=(6,)).layer
    assert built.weight.tolist() == [30]
    assert (built.lr_mult, built.decay_mult) == ([1, 0], [0, 0])
    more = "param { lr_mult: 2 decay_mult: 3 }"
    built = layer_net(layer(tops='top: "y"', more=more), x=(6, 4), label=(6,)).layer
    assert (built.lr_mult, built.decay_mult) == ([2, 0], [3, 0])
    net = layer_net(layer("max_value: 9 filler { value: 8.5 }"), x=(6, 4), label=(6,))
    net.set(weight=np.array([12.0])).run({"x": rng.uniform(-1, 1, size=(6, 4)), "label": LABEL})
    assert net.layer.weight.tolist() == [9]
    with pytest.raises(SphereFaceError, match="expected one a row"):
        layer_net(layer(), x=(6, 4), label=(5,))
