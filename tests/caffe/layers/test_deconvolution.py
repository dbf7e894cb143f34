from __future__ import annotations

import itertools

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "groups": example(
        "Deconvolution",
        "num_output: 4 group: 2 kernel_size: 4 stride: 2 pad: 1",
        images=True,
        x=(1, 4, 13, 11),
    ),
}


def deconvolution(x, w, b, dy, stride, pad, dilation, group):
    """y, dx, dw, db: each input value adds w, scaled, to the padded output.

    x: (N, C, sizes...), w: (C, O / group, kernel...); dy is called with y's shape.
    """
    axes, sizes, kernel = len(stride), x.shape[2:], w.shape[2:]
    full = [
        s * (n - 1) + d * (k - 1) + 1
        for s, n, d, k in zip(stride, sizes, dilation, kernel, strict=True)
    ]
    outs, ins = w.shape[1], x.shape[1] // group
    inner = tuple(slice(p, n - p) for p, n in zip(pad, full, strict=True))
    yp = np.zeros((len(x), outs * group, *full))
    dyp = np.zeros_like(yp)
    dy = dy(yp[(..., *inner)].shape)
    dyp[(..., *inner)] = dy
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for position in itertools.product(*map(range, sizes)):
        window = tuple(
            slice(p * s, p * s + d * (k - 1) + 1, d)
            for p, s, d, k in zip(position, stride, dilation, kernel, strict=True)
        )
        for g in range(group):
            o, c = slice(g * outs, (g + 1) * outs), slice(g * ins, (g + 1) * ins)
            value, patch = x[(slice(None), c, *position)], dyp[(slice(None), o, *window)]
            yp[(slice(None), o, *window)] += np.tensordot(value, w[c], (1, 0))
            dx[(slice(None), c, *position)] = patch.reshape(len(x), -1) @ w[c].reshape(ins, -1).T
            dw[c] += np.tensordot(value, patch, (0, 0))
    y = yp[(..., *inner)] + b.reshape(-1, *(1,) * axes)
    return y, dx, dw, dy.sum((0, *range(2, 2 + axes))), dy


def layer(options: str, bottoms=("x",), tops=("y",)) -> str:
    names = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "l" type: "Deconvolution" {names} convolution_param {{ {options} }} }}'


CASES = {
    "plain": ("kernel_size: 3", (2, 4, 3, 2), (3, 3), (1, 1), (0, 0), (1, 1), 1),
    "strided": ("kernel_size: 4 stride: 2 pad: 1", (2, 4, 3, 4), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    "gaps": ("kernel_size: 1 stride: 3", (1, 4, 2, 3), (1, 1), (3, 3), (0, 0), (1, 1), 1),
    "groups": ("kernel_size: 3 group: 2 pad: 1", (2, 4, 3, 3), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "dilated": (
        "kernel_size: 3 dilation: 2 stride: 2", (1, 4, 2, 3), (3, 3), (2, 2), (0, 0), (2, 2), 1,
    ),
    "rectangle": (
        "kernel_h: 1 kernel_w: 5 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2",
        (2, 4, 3, 4), (1, 5), (2, 1), (0, 2), (1, 1), 1,
    ),
    "one axis": ("kernel_size: 3 stride: 2 pad: 1", (2, 4, 5), (3,), (2,), (1,), (1,), 1),
    "three axes": (
        "kernel_size: 2 stride: 2 group: 2", (2, 4, 2, 2, 3), (2,) * 3, (2,) * 3, (0,) * 3,
        (1,) * 3, 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_deconvolution(case, layer_net, rng):
    options, shape, kernel, stride, pad, dilation, group = CASES[case]
    net = layer_net(layer(f"num_output: 6 {options}"), x=shape)
    x = rng.normal(size=shape)
    w, b = rng.normal(size=(4, 6 // group, *kernel)), rng.normal(size=6)
    y, dx, dw, db, dy = deconvolution(
        x, w, b, lambda s: rng.normal(size=s), stride, pad, dilation, group
    )
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["bias"], db, rtol=1e-10, atol=1e-10)


def test_several_bottoms_without_bias_and_axis(layer_net, rng):
    options = "num_output: 3 kernel_size: 2 bias_term: false axis: 2"
    net = layer_net(layer(options, "xz", "yu"), x=(2, 3, 2, 4, 4), z=(1, 2, 2, 3, 5))
    assert net.layer.blob_names == ["weight"]
    x, z = rng.normal(size=(2, 3, 2, 4, 4)), rng.normal(size=(1, 2, 2, 3, 5))
    w = rng.normal(size=(2, 3, 2, 2))
    args = (np.zeros(3), lambda s: rng.normal(size=s), (1, 1), (0, 0), (1, 1), 1)
    y, dx, dw1, _, dy = deconvolution(x.reshape(6, 2, 4, 4), w, *args)
    u, dz, dw2, _, du = deconvolution(z.reshape(2, 2, 3, 5), w, *args)
    result = net.set(weight=w).run(
        {"x": x, "z": z}, {"y": dy.reshape(2, 3, 3, 5, 5), "u": du.reshape(1, 2, 3, 4, 6)}
    )
    np.testing.assert_allclose(result.tops["y"], y.reshape(2, 3, 3, 5, 5), atol=1e-10)
    np.testing.assert_allclose(result.tops["u"], u.reshape(1, 2, 3, 4, 6), atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx.reshape(x.shape), atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["z"], dz.reshape(z.shape), atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw1 + dw2, atol=1e-10)


def test_bilinear_upsampling(layer_net):
    """The usual upsampling: a channel a group, filler bilinear, factor 2."""
    options = (
        "num_output: 2 group: 2 kernel_size: 4 stride: 2 pad: 1 bias_term: false "
        'weight_filler { type: "bilinear" }'
    )
    net = layer_net(layer(options), x=(1, 2, 3, 4))
    rows, columns = np.arange(3.0)[:, None], np.arange(4.0)
    x = np.stack([2 * rows + columns, rows - 3 * columns])[None]
    y = net.run({"x": x}).tops["y"]
    assert y.shape == (1, 2, 6, 8)
    rows, columns = np.arange(6)[:, None] / 2 - 0.25, np.arange(8) / 2 - 0.25
    expected = np.stack([2 * rows + columns, rows - 3 * columns])[None]
    # The border, where a neighbour is missing, is darker.
    inside = (..., slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(y[inside], expected[inside], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("kernel_size: 2", "num_output 0"),
        ("num_output: 3", "kernel_size given 0 times"),
        ("num_output: 3 kernel_size: 2 group: 2", "num_output 3 with group 2"),
        ("num_output: 2 kernel_size: 2 pad: 4", r"gives an output of \(-3, -3\)"),
    ],
)
def test_impossible_options_are_refused(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=rf'layer "l" \(Deconvolution\): .*{message}'):
        layer_net(layer(options), x=(1, 2, 4, 4))


def test_changed_channels_are_refused(layer_net, rng):
    net = layer_net(layer("num_output: 3 kernel_size: 2"), x=(1, 2, 4, 4))
    assert net.run({"x": rng.normal(size=(3, 2, 9, 2))}).tops["y"].shape == (3, 3, 10, 3)
    with pytest.raises(SphereFaceError, match="expected 2 channels on axis 1"):
        net.run({"x": rng.normal(size=(1, 3, 4, 4))})
