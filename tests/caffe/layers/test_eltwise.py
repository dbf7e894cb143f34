from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "sum": example("Eltwise", x=(1, 4, 5, 6), z=(1, 4, 5, 6)),
    "coeff": example("Eltwise", "coeff: 0.5 coeff: -1", x=(1, 4, 5, 6), z=(1, 4, 5, 6)),
    "one": example("Eltwise", "coeff: 20", x=(1, 4, 5, 6)),
    "same": example("Eltwise", "operation: MAX", x=(1, 4, 5, 6)),
    "prod": example("Eltwise", "operation: PROD", x=(1, 4, 5, 6), z=(1, 4, 5, 6), u=(1, 4, 5, 6)),
    "max": example("Eltwise", "operation: MAX", x=(1, 4, 5, 6), z=(1, 4, 5, 6), u=(1, 4, 5, 6)),
}

SHAPE = (2, 3, 4)


def layer(options: str = "", count: int = 3) -> str:
    bottoms = " ".join(f'bottom: "{name}"' for name in "abc"[:count])
    return f'layer {{ name: "l" type: "Eltwise" {bottoms} top: "y" eltwise_param {{ {options} }} }}'


def bottoms(rng, count=3):
    return {name: rng.normal(size=SHAPE) for name in "abc"[:count]}


def test_sum_is_the_default(layer_net, rng):
    given, dy = bottoms(rng), rng.normal(size=SHAPE)
    result = layer_net(layer(), a=SHAPE, b=SHAPE, c=SHAPE).run(given, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], sum(given.values()), rtol=1e-12)
    for name in "abc":
        np.testing.assert_allclose(result.bottom_diffs[name], dy)


def test_one_bottom_is_scaled(layer_net, rng):
    given, dy = bottoms(rng, 1), rng.normal(size=SHAPE)
    result = layer_net(layer("coeff: 20", 1), a=SHAPE).run(given, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], 20 * given["a"], rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["a"], 20 * dy, rtol=1e-12)
    for operation in ("PROD", "MAX"):
        result = layer_net(layer(f"operation: {operation}", 1), a=SHAPE).run(given, {"y": dy})
        np.testing.assert_array_equal(result.tops["y"], given["a"])
        np.testing.assert_array_equal(result.bottom_diffs["a"], dy)


def test_sum_with_coefficients(layer_net, rng):
    given, dy = bottoms(rng), rng.normal(size=SHAPE)
    text = layer("operation: SUM coeff: 2 coeff: -1 coeff: 1")
    result = layer_net(text, a=SHAPE, b=SHAPE, c=SHAPE).run(given, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], 2 * given["a"] - given["b"] + given["c"])
    for name, coeff in (("a", 2), ("b", -1), ("c", 1)):
        np.testing.assert_allclose(result.bottom_diffs[name], coeff * dy)


@pytest.mark.parametrize("stable", ["true", "false"])
def test_product(stable, layer_net, rng):
    given, dy = bottoms(rng), rng.normal(size=SHAPE)
    text = layer(f"operation: PROD stable_prod_grad: {stable}")
    result = layer_net(text, a=SHAPE, b=SHAPE, c=SHAPE).run(given, {"y": dy})
    a, b, c = given.values()
    np.testing.assert_allclose(result.tops["y"], a * b * c)
    np.testing.assert_allclose(result.bottom_diffs["a"], dy * b * c)
    np.testing.assert_allclose(result.bottom_diffs["b"], dy * a * c)
    np.testing.assert_allclose(result.bottom_diffs["c"], dy * a * b)


def test_maximum_and_its_ties(layer_net, rng):
    """The second of the first two wins a tie; a later one must be greater."""
    given, dy = bottoms(rng), rng.normal(size=SHAPE)
    given["b"][0, 0], given["c"][0, 0] = given["a"][0, 0], given["a"][0, 0] - 1
    given["a"][0, 1], given["b"][0, 1], given["c"][0, 1] = -2.0, 3.0, 3.0
    text = layer("operation: MAX")
    result = layer_net(text, a=SHAPE, b=SHAPE, c=SHAPE).run(given, {"y": dy})
    a, b, c = given.values()
    first = np.where(a > b, a, b)
    np.testing.assert_array_equal(result.tops["y"], np.where(c > first, c, first))
    np.testing.assert_array_equal(result.bottom_diffs["a"], dy * ((a > b) & (c <= first)))
    np.testing.assert_array_equal(result.bottom_diffs["b"], dy * ((a <= b) & (c <= first)))
    np.testing.assert_array_equal(result.bottom_diffs["c"], dy * (c > first))
    assert (result.bottom_diffs["b"][0, :2] == dy[0, :2]).all()


@pytest.mark.parametrize(
    ("options", "c_shape", "message"),
    [
        ("coeff: 1", SHAPE, "1 coeff values for 3 bottoms"),
        ("operation: PROD coeff: [1, 1, 1]", SHAPE, "other than SUM"),
        ("", (2, 3, 5), r"bottom 2 has shape \(2, 3, 5\); expected \(2, 3, 4\)"),
    ],
)
def test_impossible_options_are_refused(options, c_shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), a=SHAPE, b=SHAPE, c=c_shape)


def test_no_bottom_is_too_few(layer_net):
    with pytest.raises(SphereFaceError, match="expected at least 1 bottom blob"):
        layer_net(layer(count=0), a=SHAPE)
