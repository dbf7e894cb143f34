from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "infer": example("Reshape", "shape { dim: 0 dim: 2 dim: -1 }", x=(1, 4, 13, 11)),
    "axis": example("Reshape", "shape { dim: 2 dim: 2 } axis: 1 num_axes: 1", x=(1, 4, 13, 11)),
}


def layer(options: str = "", top: str = "y") -> str:
    return (
        f'layer {{ name: "l" type: "Reshape" bottom: "x" top: "{top}" '
        f"reshape_param {{ {options} }} }}"
    )


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("shape { dim: 6 dim: 20 }", (6, 20)),
        ("shape { dim: 0 dim: -1 }", (2, 60)),
        ("shape { dim: 0 dim: 0 dim: -1 dim: 2 }", (2, 3, 10, 2)),
        ("shape { dim: -1 }", (120,)),
        ("shape { dim: 2 dim: -1 dim: 60 }", (2, 1, 60)),
        # replaced in the middle; a 0 copies from where the replaced axes begin
        ("shape { dim: -1 } axis: 1 num_axes: 2", (2, 12, 5)),
        ("shape { dim: 0 dim: 2 dim: -1 } axis: 1 num_axes: 2", (2, 3, 2, 2, 5)),
        ("shape { dim: 2 dim: -1 } axis: 1", (2, 2, 30)),
        ("shape { dim: 10 dim: -1 } axis: -3", (2, 3, 10, 2)),
        # inserted
        ("shape { dim: 1 dim: 1 } axis: 1 num_axes: 0", (2, 1, 1, 3, 4, 5)),
        ("shape { dim: 1 } axis: -1 num_axes: 0", (2, 3, 4, 5, 1)),
        # removed
        ("shape { } axis: 0 num_axes: 0", (2, 3, 4, 5)),
    ],
)
def test_values_keep_their_order(options, shape, layer_net, rng):
    x, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=shape)
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    assert result.tops["y"].shape == shape
    np.testing.assert_array_equal(result.tops["y"].ravel(), x.ravel())
    np.testing.assert_array_equal(result.bottom_diffs["x"].ravel(), dy.ravel())


def test_another_batch_size(layer_net):
    net = layer_net(layer("shape { dim: 0 dim: -1 }"), x=(2, 3, 4)).net
    assert net(torch.zeros(5, 3, 4).double())["y"].shape == (5, 12)


@pytest.mark.parametrize(
    ("options", "top", "message"),
    [
        ("shape { dim: -1 dim: -1 }", "y", "at most one -1"),
        ("shape { dim: -2 }", "y", r"shape \[-2\]"),
        ("shape { dim: 7 }", "y", r"shape \(7,\) for a bottom of shape .*expected 24 values"),
        ("shape { dim: 7 dim: -1 }", "y", r"shape \(7, -1\) .*expected 24 values"),
        ("shape { dim: 1 dim: 1 dim: 1 dim: 0 }", "y", "the 0 at index 3 has no axis to copy"),
        ("shape { dim: -1 } axis: 4", "y", "axis 4 and num_axes -1"),
        ("shape { dim: -1 } axis: -5", "y", "axis -5 and num_axes -1"),
        ("shape { dim: -1 } axis: 1 num_axes: 3", "y", "axis 1 and num_axes 3"),
        ("shape { dim: -1 } num_axes: -2", "y", "num_axes -2"),
        ("shape { dim: -1 }", "x", "in-place computation"),
    ],
)
def test_what_does_not_fit(options, top, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options, top), x=(2, 3, 4))
