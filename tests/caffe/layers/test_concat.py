from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "last": example("Concat", "axis: -1", images=True, x=(1, 4, 5, 6), z=(1, 4, 5, 6)),
    "one": example("Concat", x=(1, 4, 5, 6)),
}


def layer(options: str = "", bottoms: str = "abc") -> str:
    names = " ".join(f'bottom: "{name}"' for name in bottoms)
    return f'layer {{ name: "l" type: "Concat" {names} top: "y" concat_param {{ {options} }} }}'


@pytest.mark.parametrize(
    ("options", "axis"),
    [
        ("", 1),
        ("axis: 0", 0),
        ("axis: 2", 2),
        ("axis: -1", 2),
        ("axis: -3", 0),
        ("concat_dim: 2", 2),
    ],
)
def test_values_and_diffs_by_index(options, axis, layer_net, rng):
    sizes = {"a": 2, "b": 1, "c": 3}
    shapes = {n: tuple(s if i == axis else 4 for i in range(3)) for n, s in sizes.items()}
    bottoms = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    dy = rng.normal(size=tuple(6 if i == axis else 4 for i in range(3)))
    result = layer_net(layer(options), **shapes).run(bottoms, {"y": dy})
    start = 0
    for name, size in sizes.items():
        piece = np.arange(start, start + size)
        np.testing.assert_array_equal(result.tops["y"].take(piece, axis), bottoms[name])
        np.testing.assert_array_equal(result.bottom_diffs[name], dy.take(piece, axis))
        start += size
    assert start == result.tops["y"].shape[axis]


def test_one_bottom(layer_net, rng):
    x, dy = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    result = layer_net(layer(bottoms="a"), a=x.shape).run({"a": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x)
    np.testing.assert_array_equal(result.bottom_diffs["a"], dy)


def test_a_bottom_twice_gets_the_sum_of_the_diffs(layer_net, rng):
    x, dy = rng.normal(size=(2, 3)), rng.normal(size=(2, 6))
    result = layer_net(layer(bottoms="aa"), a=x.shape).run({"a": x}, {"y": dy})
    np.testing.assert_allclose(result.bottom_diffs["a"], dy[:, :3] + dy[:, 3:], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "b", "message"),
    [
        ("axis: 1 concat_dim: 1", (2, 3), "both axis and concat_dim"),
        ("axis: 2", (2, 3), r"axis 2 for a bottom of shape \(2, 3\)"),
        ("axis: -3", (2, 3), "axis -3"),
        ("concat_dim: 2", (2, 3), "axis 2"),
        ("", (4, 3), r"bottom 1 has shape \(4, 3\); expected \(2, 3\)"),
        ("", (2, 3, 1), r"bottom 1 has shape \(2, 3, 1\)"),
    ],
)
def test_what_does_not_fit(options, b, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options, "ab"), a=(2, 3), b=b)
