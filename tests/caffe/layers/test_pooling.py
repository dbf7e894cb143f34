from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "max": example("Pooling", "pool: MAX kernel_size: 3 stride: 2", images=True, x=(1, 4, 13, 11)),
    "max_mask": example(
        "Pooling",
        "pool: MAX kernel_size: 3 stride: 2 pad: 1",
        tops=2,
        images=True,
        x=(1, 4, 13, 11),
    ),
    "max_pad": example(
        "Pooling", "pool: MAX kernel_size: 3 stride: 2 pad: 1", images=True, x=(1, 4, 13, 11)
    ),
    "max_wide_pad": example(
        "Pooling", "pool: MAX kernel_size: 5 stride: 3 pad: 4", images=True, x=(1, 4, 13, 11)
    ),
    "max_outside": example(
        "Pooling", "pool: MAX kernel_size: 1 stride: 3", images=True, x=(1, 4, 13, 11)
    ),
    "max_rectangle": example(
        "Pooling",
        "pool: MAX kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
        images=True,
        x=(1, 4, 13, 11),
    ),
    "max_floor": example(
        "Pooling",
        "pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR",
        images=True,
        x=(1, 4, 14, 12),
    ),
    "max_floor_wide_pad": example(
        "Pooling",
        "pool: MAX kernel_size: 5 stride: 4 pad: 4 ceil_mode: false",
        images=True,
        x=(1, 4, 14, 12),
    ),
    "ave_floor": example(
        "Pooling",
        "pool: AVE kernel_size: 3 stride: 2 pad: 1 ceil_mode: false",
        images=True,
        x=(1, 4, 14, 12),
    ),
    "ave": example("Pooling", "pool: AVE kernel_size: 4 stride: 3", images=True, x=(1, 4, 13, 11)),
    "ave_pad": example(
        "Pooling", "pool: AVE kernel_size: 3 stride: 2 pad: 1", images=True, x=(1, 4, 13, 11)
    ),
    "ave_wide_pad": example(
        "Pooling", "pool: AVE kernel_size: 5 stride: 3 pad: 4", images=True, x=(1, 4, 13, 11)
    ),
    "ave_gaps": example(
        "Pooling", "pool: AVE kernel_size: 2 stride: 3", images=True, x=(1, 4, 13, 11)
    ),
    "global_ave": example(
        "Pooling", "pool: AVE global_pooling: true", images=True, x=(1, 4, 13, 11)
    ),
    "global_max": example(
        "Pooling", "pool: MAX global_pooling: true", images=True, x=(1, 4, 13, 11)
    ),
    "stochastic": example(
        "Pooling",
        "pool: STOCHASTIC kernel_size: 3 stride: 2",
        before='layer { name: "r" type: "ReLU" bottom: "x" top: "x" }',
        images=True,
        x=(1, 4, 13, 11),
    ),
}

LOWEST = np.finfo(np.float32).min


def layer(options: str, tops: str = 'top: "y"') -> str:
    return f'layer {{ name: "l" type: "Pooling" bottom: "x" {tops} pooling_param {{ {options} }} }}'


def windows(shape, kernel, stride, pad, rounding=math.ceil):
    """Caffe's windows: for each output (row, column), the clipped slices and the divisor of AVE."""
    out = []
    for axis in range(2):
        size, k, s, p = shape[2 + axis], kernel[axis], stride[axis], pad[axis]
        count = rounding((size + 2 * p - k) / s) + 1
        if max(pad) > 0 and (count - 1) * s >= size + p:
            count -= 1
        spans = []
        for index in range(count):
            start = index * s - p
            end = min(start + k, size + p)
            spans.append((max(start, 0), min(end, size), end - start))
        out.append(spans)
    return out


def pool(x, kernel, stride, pad, method, dy, rounding=math.ceil):
    """y, dx and (MAX) the index of each maximum."""
    rows, columns = windows(x.shape, kernel, stride, pad, rounding)
    y = np.zeros((*x.shape[:2], len(rows), len(columns)))
    mask, dx = np.full(y.shape, -1.0), np.zeros_like(x)
    dy = dy(y.shape)
    for n, c in np.ndindex(*x.shape[:2]):
        for i, (top, bottom, height) in enumerate(rows):
            for j, (left, right, width) in enumerate(columns):
                window = x[n, c, top:bottom, left:right]
                if method == "AVE":
                    with np.errstate(invalid="ignore"):
                        y[n, c, i, j] = window.sum() / np.float64(height * width)
                    if window.size:
                        dx[n, c, top:bottom, left:right] += dy[n, c, i, j] / (height * width)
                elif window.size:
                    row, column = np.unravel_index(window.argmax(), window.shape)
                    y[n, c, i, j] = window.max()
                    mask[n, c, i, j] = (top + row) * x.shape[3] + left + column
                    dx[n, c, top + row, left + column] += dy[n, c, i, j]
                else:
                    y[n, c, i, j] = LOWEST
    return y, dx, mask, dy


ROUNDING = {"": math.ceil, "round_mode: FLOOR": math.floor, "ceil_mode: false": math.floor}
CASES = {
    "ceil": ("kernel_size: 3 stride: 2", (2, 3, 8, 7), (3, 3), (2, 2), (0, 0)),
    "padded": ("kernel_size: 3 stride: 2 pad: 1", (2, 3, 8, 9), (3, 3), (2, 2), (1, 1)),
    "last dropped": ("kernel_size: 2 stride: 2 pad: 1", (1, 2, 3, 5), (2, 2), (2, 2), (1, 1)),
    "pad beyond half": ("kernel_size: 3 stride: 2 pad: 2", (1, 2, 6, 5), (3, 3), (2, 2), (2, 2)),
    "rectangle": (
        "kernel_h: 2 kernel_w: 4 stride_h: 1 stride_w: 3 pad_h: 0 pad_w: 1",
        (2, 2, 5, 9), (2, 4), (1, 3), (0, 1),
    ),
    "default stride": ("kernel_size: 2", (1, 2, 4, 4), (2, 2), (1, 1), (0, 0)),
    "global": ("global_pooling: true", (2, 3, 4, 5), (4, 5), (1, 1), (0, 0)),
    "gaps": ("kernel_size: 1 stride: 3", (1, 2, 7, 8), (1, 1), (3, 3), (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("rounding", ROUNDING)
def test_pooling(case, method, rounding, layer_net, rng):
    options, shape, kernel, stride, pad = CASES[case]
    options = f"{options} {rounding}"
    x = rng.normal(size=shape)
    y, dx, mask, dy = pool(
        x, kernel, stride, pad, method, lambda s: rng.normal(size=s), ROUNDING[rounding]
    )
    tops = 'top: "y" top: "mask"' if method == "MAX" else 'top: "y"'
    net = layer_net(layer(f"pool: {method} {options}", tops), x=shape)
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12, atol=1e-14)
    if method == "MAX":
        np.testing.assert_array_equal(result.tops["mask"], mask)
        one = layer_net(layer(f"pool: MAX {options}"), x=shape).run({"x": x}, {"y": dy})
        np.testing.assert_array_equal(one.tops["y"], result.tops["y"])
        np.testing.assert_allclose(one.bottom_diffs["x"], dx, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rounding", ["round_mode: FLOOR", "ceil_mode: false"])
@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
def test_sizes_that_round_down(method, rounding, layer_net, rng):
    """8 x 8, kernel 3, stride 2: 3 x 3, where rounded up 4 x 4."""
    x = rng.uniform(1, 2, size=(1, 1, 8, 8))
    options = f"pool: {method} kernel_size: 3 stride: 2 {rounding}"
    y = layer_net(layer(options), phase="TEST", x=x.shape).run({"x": x}).tops["y"]
    cut = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2]
    expected = {
        "MAX": cut.max((-1, -2)),
        "AVE": cut.mean((-1, -2)),
        "STOCHASTIC": (cut**2).sum((-1, -2)) / cut.sum((-1, -2)),
    }[method]
    assert y.shape == (1, 1, 3, 3)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_a_window_outside_the_input_is_kept(layer_net, rng):
    """Size 6, kernel 1, stride 4: windows at 0, 4 and 8, the last beyond the input."""
    x = rng.normal(size=(1, 1, 6, 4))
    options = "kernel_size: 1 stride: 4"
    maximum = layer_net(layer(f"pool: MAX {options}", 'top: "y" top: "mask"'), x=x.shape)
    result = maximum.run({"x": x}, {"y": np.ones((1, 1, 3, 2))})
    assert result.tops["y"].shape == (1, 1, 3, 2)
    assert (result.tops["y"][0, 0, 2] == LOWEST).all()
    assert (result.tops["y"][0, 0, :, 1] == LOWEST).all()
    assert result.tops["mask"][0, 0].tolist() == [[0, -1], [16, -1], [-1, -1]]
    assert result.bottom_diffs["x"].sum() == 2
    average = layer_net(layer(f"pool: AVE {options}"), x=(1, 1, 4, 4)).run({"x": x[:, :, :4]})
    # The divisor of the window that starts at the edge is 0.
    assert np.isnan(average.tops["y"][0, 0]).tolist() == [[False, True], [True, True]]


def test_of_equal_values_the_first_wins(layer_net):
    x = np.ones((1, 2, 4, 4))
    net = layer_net(layer("pool: MAX kernel_size: 2 stride: 2", 'top: "y" top: "mask"'), x=x.shape)
    result = net.run({"x": x}, {"y": np.ones((1, 2, 2, 2))})
    assert result.tops["mask"][0, 0].tolist() == [[0, 2], [8, 10]]
    assert result.bottom_diffs["x"][0, 1].tolist() == [[1, 0, 1, 0], [0] * 4] * 2
    for memory_format in (torch.contiguous_format, torch.channels_last):
        ones = torch.ones(1, 2, 4, 4).to(memory_format=memory_format).requires_grad_()
        net.net.float()(ones)["y"].sum().backward()
        assert ones.grad[0, 1].tolist() == [[1, 0, 1, 0], [0] * 4] * 2


def test_stochastic_in_test_phase_is_the_weighted_mean(layer_net, rng):
    x = np.maximum(rng.normal(size=(2, 2, 5, 5)), 0)
    x[0, 0, :2, :2] = 0
    net = layer_net(layer("pool: STOCHASTIC kernel_size: 2 stride: 2"), phase="TEST", x=x.shape)
    expected = np.zeros((2, 2, 3, 3))
    for n, c, i, j in np.ndindex(2, 2, 3, 3):
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        expected[n, c, i, j] = (window**2).sum() / window.sum() if window.sum() else 0
    np.testing.assert_allclose(net.run({"x": x}).tops["y"], expected, rtol=1e-12)


def test_stochastic_in_train_phase_draws_by_activation(layer_net):
    torch.manual_seed(3)
    values = np.array([[1.0, 2.0], [0.0, 5.0]])
    x = np.tile(values, (4000, 1, 1))[:, None]
    net = layer_net(layer("pool: STOCHASTIC kernel_size: 2 stride: 2"), x=x.shape)
    result = net.run({"x": x}, {"y": np.ones((4000, 1, 1, 1))})
    drawn = result.tops["y"].ravel()
    for value, share in ((1, 1 / 8), (2, 2 / 8), (5, 5 / 8)):
        assert abs((drawn == value).mean() - share) < 0.03
    chosen = result.bottom_diffs["x"] == 1
    assert (chosen.sum((1, 2, 3)) == 1).all()
    np.testing.assert_array_equal(x[chosen], drawn)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("pool: MAX", (1, 1, 4, 4), "kernel .*at least 1"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", (1, 1, 4, 4), "mixed"),
        ("kernel_h: 2", (1, 1, 4, 4), "both kernel_h and kernel_w"),
        ("kernel_size: 2 pad: 2", (1, 1, 4, 4), r"pad \(2, 2\); expected less than the kernel"),
        ("kernel_size: 2 global_pooling: true", (1, 1, 4, 4), "with global_pooling"),
        ("stride: 2 global_pooling: true", (1, 1, 4, 4), "expected stride 1, pad 0"),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", (1, 1, 4, 4), "no padding for STOCHASTIC"),
        ("kernel_size: 2", (1, 4, 4), "4 axes"),
        ("kernel_size: 9", (1, 1, 4, 4), "hold the kernel"),
        ("kernel_size: 9 round_mode: FLOOR", (1, 1, 4, 4), "hold the kernel"),
        (
            "kernel_size: 2 round_mode: FLOOR ceil_mode: true",
            (1, 1, 4, 4),
            "round_mode: FLOOR and ceil_mode: true; expected one of them",
        ),
    ],
)
def test_impossible_options_are_refused(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=shape)


def test_only_max_has_a_mask(layer_net):
    with pytest.raises(SphereFaceError, match="two tops with pool: AVE"):
        layer_net(layer("pool: AVE kernel_size: 2", 'top: "y" top: "m"'), x=(1, 1, 4, 4))
