from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {"plain": example("GradientScaler", "max_iter: 10", x=(2, 3, 4, 5))}


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "GradientScaler" bottom: "x" top: "y"'
        f" gradient_scaler_param {{ {options} }} }}"
    )


@pytest.mark.parametrize(
    ("options", "low", "high", "alpha", "most"),
    [("max_iter: 3", 0, 1, 10, 3), ("lower_bound: 0.5 upper_bound: 2 alpha: 4", 0.5, 2, 4, 1)],
)
def test_the_gradient_grows_by_iterations(options, low, high, alpha, most, layer_net, rng):
    net = layer_net(layer(options), x=(2, 3))
    x, dy = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    for iteration in range(5):
        result = net.run({"x": x}, {"y": dy})
        progress = min(1, iteration / most)
        c = 2 * (high - low) / (1 + np.exp(-alpha * progress)) - (high - low) + low
        np.testing.assert_array_equal(result.tops["y"], x)
        np.testing.assert_allclose(result.bottom_diffs["x"], -c * dy, rtol=1e-6, atol=1e-12)


def test_nothing_moves_in_test(layer_net, rng):
    net = layer_net(layer("max_iter: 3"), phase="TEST", x=(2, 3))
    x = rng.normal(size=(2, 3))
    np.testing.assert_array_equal(net.run({"x": x}).tops["y"], x)
    assert int(net.layer.iteration) == 0


@pytest.mark.parametrize("options", ["lower_bound: 2", "alpha: -1", "max_iter: 0"])
def test_what_is_refused(options, layer_net):
    with pytest.raises(SphereFaceError, match="expected rising bounds"):
        layer_net(layer(options), x=(2, 3))
