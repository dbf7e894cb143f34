from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "l2": example("Normalize", images=True, x=(1, 4, 13, 11)),
    "l1_norm": example("Normalize", 'normalize_type: "L1"', tops=2, x=(1, 4, 13, 11)),
}


def layer(options: str, tops: str = 'top: "y" top: "norm"') -> str:
    options = f"normalize_param {{ {options} }}"
    return f'layer {{ name: "l" type: "Normalize" bottom: "x" {tops} {options} }}'


def norm_of(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "L2":
        return np.sqrt((x**2).sum(1, keepdims=True) + 1e-6)
    return np.abs(x).sum(1, keepdims=True) + 1e-6


@pytest.mark.parametrize("bp_norm", [True, False])
@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 2)])
def test_normalize(shape, kind, bp_norm, layer_net, rng):
    x = rng.normal(size=shape)
    dy, dnorm = rng.normal(size=shape), rng.normal(size=norm_of(x, kind).shape)
    text = layer(f'normalize_type: "{kind}" bp_norm: {str(bp_norm).lower()}')
    result = layer_net(text, x=shape).run({"x": x}, {"y": dy, "norm": dnorm})
    np.testing.assert_allclose(result.tops["norm"], norm_of(x, kind), rtol=1e-12)
    np.testing.assert_allclose(result.tops["y"], x / norm_of(x, kind), rtol=1e-12)

    def loss(x: np.ndarray) -> float:
        passed = (dnorm * norm_of(x, kind)).sum() if bp_norm else 0.0
        return (dy * x / norm_of(x, kind)).sum() + passed

    expected = numeric_gradient(loss, {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], expected, rtol=1e-6, atol=1e-8)


def test_defaults_and_zero(layer_net):
    net = layer_net('layer { name: "l" type: "Normalize" bottom: "x" top: "y" }', x=(2, 2))
    result = net.run({"x": np.array([[3.0, 4.0], [0.0, 0.0]])}, {"y": np.ones((2, 2))})
    np.testing.assert_allclose(result.tops["y"], [[0.6, 0.8], [0, 0]], atol=1e-6)
    # sqrt(1e-6) is what a zero vector is divided by.
    np.testing.assert_allclose(result.bottom_diffs["x"][1], [1000, 1000])


def test_errors(layer_net):
    with pytest.raises(SphereFaceError, match='normalize_type "L3"; expected "L1" or "L2"'):
        layer_net(layer('normalize_type: "L3"'), x=(2, 2))
    with pytest.raises(SphereFaceError, match="axis 1 for a bottom"):
        layer_net(layer(""), x=(2,))
