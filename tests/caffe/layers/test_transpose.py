from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "time_first": example("Transpose", "dim: 3 dim: 0 dim: 1 dim: 2", x=(1, 4, 3, 5), batch=False),
    "backwards": example("Reverse", x=(5, 1, 3), batch=False),
    "axis": example("Reverse", "axis: -1", x=(1, 4, 13, 11)),
}


def layer(kind: str, options: str) -> str:
    param = f"{kind.lower()}_param {{ {options} }}"
    return f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" {param} }}'


def test_transpose(layer_net, rng):
    x, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(5, 2, 3, 4))
    net = layer_net(layer("Transpose", "dim: 3 dim: 0 dim: 1 dim: 2"), x=x.shape)
    result = net.run({"x": x}, {"y": dy})
    for index in np.ndindex(2, 3, 4, 5):
        n, c, h, w = index
        assert result.tops["y"][w, n, c, h] == x[index]
        assert result.bottom_diffs["x"][index] == dy[w, n, c, h]


@pytest.mark.parametrize(("options", "axis"), [("", 0), ("axis: 2", 2), ("axis: -1", 2)])
def test_reverse(options, axis, layer_net, rng):
    x, dy = rng.normal(size=(2, 4, 3, 5))
    result = layer_net(layer("Reverse", options), x=x.shape).run({"x": x}, {"y": dy})
    for i in range(x.shape[axis]):
        back = x.shape[axis] - 1 - i
        np.testing.assert_array_equal(
            result.tops["y"].take(i, axis), x.take(back, axis), strict=True
        )
        np.testing.assert_array_equal(
            result.bottom_diffs["x"].take(i, axis), dy.take(back, axis), strict=True
        )


@pytest.mark.parametrize("options", ["dim: 0 dim: 1", "dim: 0 dim: 0 dim: 1", ""])
def test_an_order_names_every_axis(options, layer_net):
    with pytest.raises(SphereFaceError, match="expected each of 0 to 2 once"):
        layer_net(layer("Transpose", options), x=(2, 3, 4))
    with pytest.raises(SphereFaceError, match="axis 3 for a bottom"):
        layer_net(layer("Reverse", "axis: 3"), x=(2, 3, 4))
