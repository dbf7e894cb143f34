from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "channels": example("Softmax", images=True, x=(1, 4, 13, 11)),
    "last": example("Softmax", "axis: -1", x=(1, 4, 13, 11)),
}


def layer(options: str = "", top: str = "y") -> str:
    return (
        f'layer {{ name: "l" type: "Softmax" bottom: "x" top: "{top}" '
        f"softmax_param {{ {options} }} }}"
    )


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize(
    ("options", "axis"), [("", 1), ("axis: 0", 0), ("axis: -1 engine: CAFFE", 2)]
)
def test_softmax(options, axis, scale, layer_net, rng):
    x, dy = scale * rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    e = np.exp(x - x.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-12)
    dx = y * (dy - (dy * y).sum(axis, keepdims=True))
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)


def test_in_place(layer_net):
    net = layer_net(layer(top="x"), x=(1, 2)).net
    assert net.outputs == ("x",)


def test_an_axis_that_is_not_there(layer_net):
    with pytest.raises(SphereFaceError, match="axis 1 for a bottom"):
        layer_net(layer(), x=(3,))
