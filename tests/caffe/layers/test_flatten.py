from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "all": example("Flatten", x=(1, 4, 13, 11)),
    "middle": example("Flatten", "axis: 1 end_axis: 2", x=(1, 4, 13, 11)),
    "new_axis": example("Flatten", "axis: 2 end_axis: 1", x=(1, 4, 13, 11)),
}


def layer(options: str = "", top: str = "y") -> str:
    return (
        f'layer {{ name: "l" type: "Flatten" bottom: "x" top: "{top}" '
        f"flatten_param {{ {options} }} }}"
    )


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("", (2, 60)),
        ("axis: 0", (120,)),
        ("axis: 2", (2, 3, 20)),
        ("end_axis: 2", (2, 12, 5)),
        ("axis: -4 end_axis: -3", (6, 4, 5)),
        ("axis: 2 end_axis: 2", (2, 3, 4, 5)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),
        ("axis: -1 end_axis: -2", (2, 3, 4, 1, 5)),
    ],
)
def test_values_keep_their_order(options, shape, layer_net, rng):
    x, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=shape)
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    assert result.tops["y"].shape == shape
    np.testing.assert_array_equal(result.tops["y"].ravel(), x.ravel())
    np.testing.assert_array_equal(result.bottom_diffs["x"].ravel(), dy.ravel())


@pytest.mark.parametrize(
    ("options", "top", "message"),
    [
        ("axis: 4", "y", "axis 4 for a bottom"),
        ("end_axis: -5", "y", "axis -5 for a bottom"),
        ("axis: 2 end_axis: 0", "y", "axis 2 is behind end_axis 0"),
        ("", "x", "in-place computation"),
    ],
)
def test_what_does_not_fit(options, top, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options, top), x=(2, 3, 4, 5))
