from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "forward": example("Reorg", "stride: 2", x=(2, 8, 4, 6)),
    "reverse": example("Reorg", "stride: 2 reverse: true", images=True, x=(2, 8, 3, 2)),
}


def layer(options: str) -> str:
    return f'layer {{ name: "l" type: "Reorg" bottom: "x" top: "y" reorg_param {{ {options} }} }}'


def darknet(x: np.ndarray, stride: int, reverse: bool) -> np.ndarray:
    """Copy value by value, with darknet's two flat indices."""
    count, channels, height, width = x.shape
    few = channels // stride**2
    out = np.empty_like(x).ravel()
    for n, k, j, i in np.ndindex(x.shape):
        plain = i + width * (j + height * (k + channels * n))
        offset = k // few
        across, down = i * stride + offset % stride, j * stride + offset // stride
        wide = across + width * stride * (down + height * stride * (k % few + few * n))
        if reverse:
            out[wide] = x.ravel()[plain]
        else:
            out[plain] = x.ravel()[wide]
    if reverse:
        return out.reshape(count, few, height * stride, width * stride)
    return out.reshape(count, channels * stride**2, height // stride, width // stride)


@pytest.mark.parametrize(("stride", "shape"), [(2, (2, 8, 4, 6)), (3, (1, 18, 3, 6))])
@pytest.mark.parametrize("reverse", [False, True])
def test_value_by_value(stride, shape, reverse, layer_net, rng):
    x = rng.normal(size=shape)
    y = darknet(x, stride, reverse)
    dy = rng.normal(size=y.shape)
    options = f"stride: {stride} reverse: {str(reverse).lower()}"
    result = layer_net(layer(options), x=shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], y)
    # A permutation: the gradient's values go where the values came from.
    number = darknet(np.arange(x.size, dtype=float).reshape(shape), stride, reverse)
    expected = np.empty(x.size)
    expected[number.ravel().astype(int)] = dy.ravel()
    np.testing.assert_array_equal(result.bottom_diffs["x"].ravel(), expected)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("", (1, 4, 4, 4), "stride 0; expected at least 1"),
        ("stride: 2", (1, 6, 4, 4), "channels a multiple of 4"),
        ("stride: 2", (1, 4, 5, 4), "height and width multiples of 2"),
        ("stride: 2", (1, 4), "4 axes"),
    ],
)
def test_what_does_not_fit(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=shape)
