from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "max": example("SPP", "pyramid_height: 3", x=(1, 4, 13, 11)),
    "ave": example("SPP", "pyramid_height: 2 pool: AVE", x=(1, 4, 13, 11)),
}


def layer(options: str) -> str:
    return f'layer {{ name: "l" type: "SPP" bottom: "x" top: "y" spp_param {{ {options} }} }}'


def windows(size, bins):
    """(start, end) of Caffe's windows, with the parameters that SPP gives to Pooling."""
    kernel = int(np.ceil(size / bins))
    pad = (kernel * bins - size + 1) // 2
    count = int(np.ceil((size + 2 * pad - kernel) / kernel)) + 1
    if pad and (count - 1) * kernel >= size + pad:
        count -= 1
    assert count == bins
    return [(i * kernel - pad, min(i * kernel - pad + kernel, size + pad)) for i in range(bins)]


def spp(x, height, pool, dy):
    """y (N, values) and dx."""
    y, dx, column = [], np.zeros_like(x), 0
    for level in range(height):
        for c in range(x.shape[1]):
            for top, bottom in windows(x.shape[2], 2**level):
                for left, right in windows(x.shape[3], 2**level):
                    at = (slice(max(top, 0), bottom), slice(max(left, 0), right))
                    window = x[(slice(None), c, *at)].reshape(len(x), -1)
                    for n in range(len(x)):
                        diff = dx[(n, c, *at)]
                        if pool == "MAX":
                            best = np.unravel_index(window[n].argmax(), diff.shape)
                            diff[best] += dy[n, column]
                        else:
                            diff += dy[n, column] / ((bottom - top) * (right - left))
                    area = (bottom - top) * (right - left)
                    y.append(window.max(1) if pool == "MAX" else window.sum(1) / area)
                    column += 1
    return np.stack(y, 1), dx


# 9 over 4: kernel 3, pad 2, more than half of the kernel. 7: pad 1 only before.
SHAPES = [(2, 3, 8, 8), (1, 2, 9, 7), (2, 2, 11, 4), (1, 1, 27, 30)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_three_levels(shape, pool, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=(shape[0], shape[1] * 21))
    y, dx = spp(x, 3, pool, dy)
    net = layer_net(layer(f"pyramid_height: 3 pool: {pool}"), x=shape)
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12, atol=1e-14)


def test_one_level_keeps_four_axes_and_max_is_the_default(layer_net, rng):
    x, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 1, 1))
    result = layer_net(layer("pyramid_height: 1"), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x.max((2, 3), keepdims=True))
    assert (result.bottom_diffs["x"].sum((2, 3)) == dy[:, :, 0, 0]).all()


def test_of_equal_values_the_first_wins(layer_net):
    x = np.ones((1, 1, 4, 4))
    net = layer_net(layer("pyramid_height: 2"), x=x.shape)
    result = net.run({"x": x}, {"y": np.array([[10.0, 1, 2, 3, 4]])})
    expected = np.zeros((4, 4))
    expected[0, 0], expected[0, 2], expected[2, 0], expected[2, 2] = 11, 2, 3, 4
    np.testing.assert_array_equal(result.bottom_diffs["x"][0, 0], expected)


def test_any_image_size_gives_the_same_top(layer_net, rng):
    net = layer_net(layer("pyramid_height: 3 pool: AVE"), x=(2, 3, 8, 8))
    x = rng.normal(size=(5, 3, 13, 10))
    y = net.run({"x": x}).tops["y"]
    assert y.shape == (5, 63)
    np.testing.assert_allclose(y, spp(x, 3, "AVE", np.zeros((5, 63)))[0], rtol=1e-12)


def test_stochastic_in_test_phase(layer_net, rng):
    x = rng.uniform(size=(2, 3, 4, 6))
    net = layer_net(layer("pyramid_height: 2 pool: STOCHASTIC"), "TEST", x=x.shape)
    blocks = x.reshape(2, 3, 2, 2, 2, 3)
    fine = (blocks**2).sum((3, 5)) / blocks.sum((3, 5))
    coarse = (x**2).sum((2, 3)) / x.sum((2, 3))
    expected = np.concatenate([coarse, fine.reshape(2, 12)], 1)
    np.testing.assert_allclose(net.run({"x": x}).tops["y"], expected, rtol=1e-12)


def test_stochastic_in_train_phase_draws(layer_net):
    torch.manual_seed(3)
    x = np.tile([[1.0, 2], [0, 5]], (4000, 1, 1, 1))
    net = layer_net(layer("pyramid_height: 1 pool: STOCHASTIC"), x=x.shape)
    y = net.run({"x": x}).tops["y"].ravel()
    for value in (1, 2, 5):
        assert abs((y == value).mean() - value / 8) < 0.03
    net.net.eval()
    np.testing.assert_allclose(net.run({"x": x[:2]}).tops["y"].ravel(), [30 / 8] * 2)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("", (1, 1, 4, 4), "pyramid_height 0; expected at least 1"),
        ("pyramid_height: 2", (1, 4, 4), "expected 4 axes"),
        ("pyramid_height: 3", (1, 1, 8, 5), "has no 4 windows of 2 on a side"),
        ("pyramid_height: 2 pool: STOCHASTIC", (1, 1, 4, 5), "sizes divisible by 2"),
    ],
)
def test_impossible_options_are_refused(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=shape)
