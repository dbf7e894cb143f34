from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "three": example("Tile", "tiles: 3", x=(1, 4, 13, 11)),
}


def layer(options: str) -> str:
    return f'layer {{ name: "l" type: "Tile" bottom: "x" top: "y" tile_param {{ {options} }} }}'


@pytest.mark.parametrize(
    ("options", "axis", "tiles"),
    [
        ("tiles: 3", 1, 3),
        ("axis: 0 tiles: 2", 0, 2),
        ("axis: -1 tiles: 4", 2, 4),
        ("tiles: 1", 1, 1),
    ],
)
def test_copies_follow_each_other(options, axis, tiles, layer_net, rng):
    x = rng.normal(size=(2, 3, 4))
    size = x.shape[axis]
    dy = rng.normal(size=tuple(n * tiles if i == axis else n for i, n in enumerate(x.shape)))
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    dx = np.zeros_like(x)
    for copy in range(tiles):
        piece = np.arange(copy * size, (copy + 1) * size)
        np.testing.assert_array_equal(result.tops["y"].take(piece, axis), x)
        dx += dy.take(piece, axis)
    assert result.tops["y"].shape == dy.shape
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("axis: 1", "no tiles; expected the number of copies"),
        ("tiles: 0", "tiles 0"),
        ("tiles: 2 axis: 2", "axis 2 for a bottom"),
    ],
)
def test_what_does_not_fit(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(2, 3))
