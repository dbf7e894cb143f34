from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "corner": example(
        "Crop", "axis: 2 offset: 1 offset: 2", images=True, x=(1, 4, 9, 9), z=(1, 4, 5, 6)
    ),
}

SHAPE = (3, 4, 6, 5)


def layer(options: str = "") -> str:
    param = f"crop_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "Crop" bottom: "x" bottom: "r" top: "y" {param} }}'


# options: shape of the second bottom, part of the first
CASES = {
    "": ((9, 9, 4, 5), np.s_[:, :, :4, :]),
    "offset: 1": ((9, 9, 4, 4), np.s_[:, :, 1:5, 1:]),
    "offset: 2 offset: 0": ((9, 9, 3, 4), np.s_[:, :, 2:5, :4]),
    "axis: 1 offset: [1, 2, 3]": ((9, 2, 3, 1), np.s_[:, 1:3, 2:5, 3:4]),
    "axis: -1 offset: 2": ((1, 1, 1, 3), np.s_[..., 2:]),
    "axis: 0": ((2, 3, 4, 5), np.s_[:2, :3, :4, :5]),
    "axis: 3": ((2, 3, 4, 5, 6), np.s_[..., :5]),
}


@pytest.mark.parametrize("options", CASES)
def test_crop(options, layer_net, rng):
    shape, part = CASES[options]
    x, r = rng.normal(size=SHAPE), rng.normal(size=shape)
    dy = rng.normal(size=x[part].shape)
    result = layer_net(layer(options), x=SHAPE, r=shape).run({"x": x, "r": r}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x[part])
    expected = np.zeros(SHAPE)
    expected[part] = dy
    np.testing.assert_array_equal(result.bottom_diffs["x"], expected)
    assert "r" not in result.bottom_diffs


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("offset: [1, 2, 3]", SHAPE, "3 offset values; expected none, one, or one for each of"),
        ("offset: 1", (3, 4, 6, 2), "size 6 at offset 1 of axis 2; expected a part of the 6"),
        ("", (3, 4, 7, 5), "size 7 at offset 0 of axis 2"),
        ("", (3, 4, 6), "expected 4 axes, at least as many in the second"),
        ("axis: 4", SHAPE, "axis 4 for a bottom"),
    ],
)
def test_impossible_parts_are_refused(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=SHAPE, r=shape)


def test_sizes_may_change(layer_net, rng):
    net = layer_net(layer("offset: 1"), x=SHAPE, r=(1, 1, 2, 2))
    x = rng.normal(size=(1, 2, 9, 8))
    y = net.run({"x": x, "r": np.zeros((1, 1, 7, 6))}).tops["y"]
    np.testing.assert_array_equal(y, x[:, :, 1:8, 1:7])
