from __future__ import annotations

import itertools

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "patches": example("Im2col", "kernel_size: 2 stride: 2", x=(1, 4, 13, 11)),
}


def im2col(x, kernel, stride, pad, dilation, dy):
    """Patches of x (N, C, sizes...) and the gradient of x."""
    xp = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(xp.shape[2:], dilation, kernel, stride, strict=True)
    ]
    places = list(itertools.product(*map(range, kernel)))
    y = np.zeros((len(x), x.shape[1] * len(places), *sizes))
    dy, dxp = dy(y.shape), np.zeros_like(xp)
    for c in range(x.shape[1]):
        for i, place in enumerate(places):
            for out in itertools.product(*map(range, sizes)):
                at = tuple(
                    o * s + p * d for o, s, p, d in zip(out, stride, place, dilation, strict=True)
                )
                y[(slice(None), c * len(places) + i, *out)] = xp[(slice(None), c, *at)]
                dxp[(slice(None), c, *at)] += dy[(slice(None), c * len(places) + i, *out)]
    inner = tuple(slice(p, p + n) for p, n in zip(pad, x.shape[2:], strict=True))
    return y, dxp[(..., *inner)], dy


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "Im2col" bottom: "x" top: "y" '
        f"convolution_param {{ {options} }} }}"
    )


CASES = {
    "plain": ("kernel_size: 3", (2, 3, 5, 4), (3, 3), (1, 1), (0, 0), (1, 1)),
    "strided": ("kernel_size: 3 stride: 2 pad: 1", (2, 2, 6, 5), (3, 3), (2, 2), (1, 1), (1, 1)),
    "dilated": ("kernel_size: 2 dilation: 3", (1, 2, 6, 5), (2, 2), (1, 1), (0, 0), (3, 3)),
    "rectangle": (
        "kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2",
        (2, 2, 4, 3), (1, 3), (2, 1), (0, 2), (1, 1),
    ),
    "one axis": ("kernel_size: 3 stride: 2 pad: 1", (2, 2, 7), (3,), (2,), (1,), (1,)),
    "three axes": (
        "kernel_size: [1, 2, 3] force_nd_im2col: true", (1, 2, 2, 3, 4), (1, 2, 3), (1, 1, 1),
        (0, 0, 0), (1, 1, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_im2col(case, layer_net, rng):
    options, shape, kernel, stride, pad, dilation = CASES[case]
    x = rng.normal(size=shape)
    y, dx, dy = im2col(x, kernel, stride, pad, dilation, lambda s: rng.normal(size=s))
    result = layer_net(layer(options), x=shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], y)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("axis", [0, 2, -3])
def test_axis(axis, layer_net, rng):
    """Everything before the channel axis is batch."""
    x = rng.normal(size=(2, 3, 2, 4, 4) if axis else (3, 4, 4))
    folded = x.reshape(-1, *x.shape[-3:])
    y, dx, dy = im2col(folded, (2, 2), (1, 1), (0, 0), (1, 1), lambda s: rng.normal(size=s))
    shape = (*x.shape[:-3], *y.shape[1:])
    net = layer_net(layer(f"kernel_size: 2 axis: {axis}"), x=x.shape)
    result = net.run({"x": x}, {"y": dy.reshape(shape)})
    np.testing.assert_array_equal(result.tops["y"], y.reshape(shape))
    np.testing.assert_allclose(result.bottom_diffs["x"], dx.reshape(x.shape), atol=1e-13)


def test_sizes_and_channels_may_change(layer_net, rng):
    net = layer_net(layer("kernel_size: 2"), x=(1, 2, 4, 4))
    assert net.run({"x": rng.normal(size=(3, 5, 3, 6))}).tops["y"].shape == (3, 20, 2, 5)
    with pytest.raises(SphereFaceError, match="expected 2 spatial axes"):
        net.run({"x": rng.normal(size=(3, 5, 3))})
