from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "width": example("Flip", x=(1, 4, 13, 11)),
    "both": example("Flip", "flip_height: true", x=(1, 4, 13, 11)),
    "neither": example("Flip", "flip_width: false", x=(1, 4, 13, 11)),
}


def layer(options: str = "") -> str:
    param = f"flip_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "Flip" bottom: "x" top: "y" {param} }}'


@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [
        ("", 1, -1),
        ("flip_height: true", -1, -1),
        ("flip_width: false flip_height: true", -1, 1),
        ("flip_width: false", 1, 1),
    ],
)
def test_flip(options, rows, columns, layer_net, rng):
    x, dy = rng.normal(size=(2, 2, 3, 5)), rng.normal(size=(2, 2, 3, 5))
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x[..., ::rows, ::columns])
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy[..., ::rows, ::columns])


def test_only_images(layer_net):
    with pytest.raises(SphereFaceError, match=r"bottom of shape \(2, 3\); expected \(N, C, H, W\)"):
        layer_net(layer(), x=(2, 3))
