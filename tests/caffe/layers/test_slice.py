from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "points": example(
        "Slice", "slice_point: 1 slice_point: 3", tops=3, images=True, x=(1, 4, 13, 11)
    ),
    "even": example("Slice", tops=2, x=(1, 4, 13, 11)),
    "samples": example("Slice", "axis: 0 slice_point: 1 slice_point: 3", tops=3, x=(4, 5)),
}


def layer(options: str = "", tops: str = "abc") -> str:
    names = " ".join(f'top: "{name}"' for name in tops)
    return f'layer {{ name: "l" type: "Slice" bottom: "x" {names} slice_param {{ {options} }} }}'


@pytest.mark.parametrize(
    ("options", "axis", "edges"),
    [
        ("", 1, (0, 2, 4, 6)),
        ("axis: 0", 0, (0, 2, 4, 6)),
        ("axis: -1 slice_point: 1 slice_point: 5", 2, (0, 1, 5, 6)),
        ("slice_dim: 2 slice_point: [3, 4]", 2, (0, 3, 4, 6)),
    ],
)
def test_values_and_diffs_by_index(options, axis, edges, layer_net, rng):
    x = rng.normal(size=(6, 6, 6))
    net = layer_net(layer(options), x=x.shape)
    pieces = [np.arange(*edge) for edge in pairwise(edges)]
    diffs = {n: rng.normal(size=x.take(p, axis).shape) for n, p in zip("abc", pieces, strict=True)}
    result = net.run({"x": x}, diffs)
    for name, piece in zip("abc", pieces, strict=True):
        np.testing.assert_array_equal(result.tops[name], x.take(piece, axis))
        np.testing.assert_array_equal(result.bottom_diffs["x"].take(piece, axis), diffs[name])


def test_a_piece_without_a_diff_counts_as_zero(layer_net, rng):
    x, da = rng.normal(size=(2, 6)), rng.normal(size=(2, 2))
    result = layer_net(layer(), x=x.shape).run({"x": x}, {"a": da})
    np.testing.assert_array_equal(result.bottom_diffs["x"], np.hstack([da, np.zeros((2, 4))]))


def test_one_top(layer_net, rng):
    x, dy = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    result = layer_net(layer(tops="a"), x=x.shape).run({"x": x}, {"a": dy})
    np.testing.assert_array_equal(result.tops["a"], x)
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("axis: 1 slice_dim: 1", "both axis and slice_dim"),
        ("axis: 2", r"axis 2 for a bottom of shape \(4, 7\)"),
        ("", "3 tops for an axis of size 7 .*expected a number of tops that divides it"),
        ("slice_point: 1", "1 slice_point values for 3 tops; expected none, or 2"),
        ("slice_point: [3, 3]", r"slice_point \[3, 3\]; expected rising"),
        ("slice_point: [0, 3]", r"slice_point \[0, 3\]; expected rising"),
        ("slice_point: [3, 8]", "slice_point 8 for an axis of size 7"),
    ],
)
def test_what_does_not_fit(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(4, 7))
