from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "plain": example("Insanity", x=(1, 4, 13, 11), images=True),
    "bounds": example("Insanity", "lb: 2 ub: 2.5", x=(3, 4)),
}
SHAPE = (50, 40)


def layer(options: str = "") -> str:
    return (
        'layer { name: "l" type: "Insanity" bottom: "x" top: "y"'
        f" insanity_param {{ {options} }} }}"
    )


@pytest.mark.parametrize(("options", "low", "high"), [("", 3, 8), ("lb: 1.5 ub: 4", 1.5, 4)])
def test_slopes_of_training_and_of_test(options, low, high, layer_net, rng):
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    result = layer_net(layer(options), x=SHAPE).run({"x": x}, {"y": dy})
    y, negative = result.tops["y"], x < 0
    np.testing.assert_array_equal(y[~negative], x[~negative])
    divisor = (x / y)[negative]
    assert low <= divisor.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < divisor.max() <= high
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * y / x, rtol=1e-12)
    # The one slope of TEST is the mean of those of TRAIN, 1 / uniform.
    result = layer_net(layer(options), phase="TEST", x=SHAPE).run({"x": x}, {"y": dy})
    mean = np.log(high / low) / (high - low)
    np.testing.assert_allclose(result.tops["y"], np.where(negative, x * mean, x), rtol=1e-6)
    np.testing.assert_allclose(
        result.bottom_diffs["x"], dy * np.where(negative, mean, 1), rtol=1e-6
    )


@pytest.mark.parametrize("options", ["lb: 3 ub: 3", "lb: 0", "lb: -8"])
def test_bounds_that_are_refused(options, layer_net):
    with pytest.raises(SphereFaceError, match="expected lb less than ub, neither of them 0"):
        layer_net(layer(options), x=(2, 3))
