from __future__ import annotations

import itertools

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "groups": example(
        "Convolution", "num_output: 6 group: 2 kernel_size: 3 pad: 1", images=True, x=(1, 4, 13, 11)
    ),
    "rectangle": example(
        "Convolution",
        "num_output: 3 kernel_h: 1 kernel_w: 3 stride_w: 2 stride_h: 1",
        x=(1, 4, 13, 11),
    ),
    "no_bias": example(
        "Convolution", "num_output: 3 kernel_size: 2 bias_term: false", x=(1, 4, 13, 11)
    ),
    "1d": example("Convolution", "num_output: 3 kernel_size: 3 dilation: 2", x=(1, 2, 17)),
    "3d": example(
        "Convolution", "num_output: 3 kernel_size: 3 stride: 2 pad: 1", x=(1, 2, 7, 6, 5)
    ),
    "two": example(
        "Convolution", "num_output: 3 kernel_size: 2", tops=2, x=(1, 4, 5, 6), z=(1, 4, 5, 6)
    ),
    "depthwise": example("DepthwiseConvolution", "num_output: 4 kernel_size: 3", x=(1, 4, 13, 11)),
    "ristretto": example("ConvolutionRistretto", "num_output: 3 kernel_size: 3", x=(1, 4, 13, 11)),
    "hole": example("HoleConvolution", "num_output: 3 kernel_size: 3 hole: 2", x=(1, 4, 13, 11)),
    "c3d": example(
        "Convolution3D",
        "num_output: 3 kernel_size: 3 kernel_depth: 2 pad: 1 temporal_pad: 1 stride: 2",
        x=(1, 2, 4, 6, 5),
    ),
    "other_name": example("ConvolutionDepthwise", "kernel_size: 3", x=(1, 4, 13, 11)),
}


def convolution(x, w, b, dy, stride, pad, dilation, group):
    """y, dx, dw, db of a cross-correlation over any number of axes, one output at a time.

    x: (N, C, sizes...), w: (O, C / group, kernel...); dy is called with y's shape.
    """
    axes = len(stride)
    xp = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    kernel = w.shape[2:]
    sizes = [
        (xp.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(axes)
    ]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    dy = dy(y.shape)
    outs, ins = w.shape[0] // group, x.shape[1] // group
    for position in itertools.product(*map(range, sizes)):
        window = tuple(
            slice(p * s, p * s + d * (k - 1) + 1, d)
            for p, s, d, k in zip(position, stride, dilation, kernel, strict=True)
        )
        for g in range(group):
            o, c = slice(g * outs, (g + 1) * outs), slice(g * ins, (g + 1) * ins)
            patch = xp[(slice(None), c, *window)]
            diff = dy[(slice(None), o, *position)]
            y[(slice(None), o, *position)] = patch.reshape(len(x), -1) @ w[o].reshape(outs, -1).T
            dw[o] += np.tensordot(diff, patch, (0, 0))
            dxp[(slice(None), c, *window)] += np.tensordot(diff, w[o], (1, 0))
    spatial = (1,) * axes
    dx = dxp[(..., *(slice(p, p + n) for p, n in zip(pad, x.shape[2:], strict=True)))]
    return y + b.reshape(-1, *spatial), dx, dw, dy.sum((0, *range(2, 2 + axes))), dy


def layer(options: str, bottoms=("x",), tops=("y",), type_="Convolution") -> str:
    names = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "l" type: "{type_}" {names} convolution_param {{ {options} }} }}'


CASES = {
    "plain": ("kernel_size: 3", (2, 4, 7, 6), (3, 3), (1, 1), (0, 0), (1, 1), 1),
    "strided": ("kernel_size: 3 stride: 2 pad: 1", (2, 4, 9, 7), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "groups": ("kernel_size: 3 group: 2 pad: 1", (2, 4, 5, 6), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "dilated": (
        "kernel_size: 3 dilation: 2 pad: 2", (1, 4, 9, 8), (3, 3), (1, 1), (2, 2), (2, 2), 1,
    ),
    "hole": ("kernel_size: 3 hole: 2 pad: 2", (1, 4, 9, 8), (3, 3), (1, 1), (2, 2), (2, 2), 1),
    "hole_h": (
        "kernel_size: 3 hole_h: 2 pad: 1", (1, 4, 9, 8), (3, 3), (1, 1), (1, 1), (2, 1), 1,
    ),
    "rectangle": (
        "kernel_h: 1 kernel_w: 5 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2",
        (2, 4, 6, 7), (1, 5), (2, 1), (0, 2), (1, 1), 1,
    ),
    "listed": (
        "kernel_size: 2 kernel_size: 3 stride: 1 stride: 2 pad: [1, 0] dilation: [2, 1]",
        (2, 4, 6, 7), (2, 3), (1, 2), (1, 0), (2, 1), 1,
    ),
    "one axis": ("kernel_size: 3 stride: 2 pad: 1", (2, 4, 9), (3,), (2,), (1,), (1,), 1),
    "three axes": (
        "kernel_size: 2 stride: 2 group: 2", (2, 4, 4, 5, 6), (2,) * 3, (2,) * 3, (0,) * 3,
        (1,) * 3, 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_convolution(case, layer_net, rng):
    options, shape, kernel, stride, pad, dilation, group = CASES[case]
    net = layer_net(layer(f"num_output: 6 {options}"), x=shape)
    x = rng.normal(size=shape)
    w, b = rng.normal(size=(6, shape[1] // group, *kernel)), rng.normal(size=6)
    y, dx, dw, db, dy = convolution(
        x, w, b, lambda s: rng.normal(size=s), stride, pad, dilation, group
    )
    assert np.abs(y).max() > 1
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["bias"], db, rtol=1e-10, atol=1e-10)


def test_several_bottoms_share_the_weight(layer_net, rng):
    text = layer("num_output: 3 kernel_size: 2 bias_term: false", ("x", "z"), ("y", "u"))
    net = layer_net(text, x=(2, 2, 4, 4), z=(1, 2, 3, 5))
    assert net.layer.blob_names == ["weight"]
    x, z, w = (
        rng.normal(size=(2, 2, 4, 4)),
        rng.normal(size=(1, 2, 3, 5)),
        rng.normal(size=(3, 2, 2, 2)),
    )
    args = (np.zeros(3), lambda s: rng.normal(size=s), (1, 1), (0, 0), (1, 1), 1)
    y, dx, dw1, _, dy = convolution(x, w, *args)
    u, dz, dw2, _, du = convolution(z, w, *args)
    result = net.set(weight=w).run({"x": x, "z": z}, {"y": dy, "u": du})
    np.testing.assert_allclose(result.tops["y"], y, atol=1e-10)
    np.testing.assert_allclose(result.tops["u"], u, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["z"], dz, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw1 + dw2, atol=1e-10)


def test_axes_before_the_channels_are_batch(layer_net, rng):
    net = layer_net(layer("num_output: 3 kernel_size: 2 axis: 2"), x=(2, 3, 2, 4, 4))
    x, w, b = rng.normal(size=(2, 3, 2, 4, 4)), rng.normal(size=(3, 2, 2, 2)), rng.normal(size=3)
    y, dx, dw, _, dy = convolution(
        x.reshape(6, 2, 4, 4), w, b, lambda s: rng.normal(size=s), (1, 1), (0, 0), (1, 1), 1
    )
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy.reshape(2, 3, 3, 3, 3)})
    np.testing.assert_allclose(result.tops["y"], y.reshape(2, 3, 3, 3, 3), atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx.reshape(x.shape), atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw, atol=1e-10)


@pytest.mark.parametrize("type_", ["DepthwiseConvolution", "ConvolutionDepthwise"])
def test_depthwise(type_, layer_net, rng):
    net = layer_net(layer("num_output: 8 kernel_size: 3", type_=type_), x=(2, 4, 5, 5))
    x, w, b = rng.normal(size=(2, 4, 5, 5)), rng.normal(size=(8, 1, 3, 3)), rng.normal(size=8)
    y, dx, dw, _, dy = convolution(x, w, b, lambda s: rng.normal(size=s), (1, 1), (0, 0), (1, 1), 4)
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw, atol=1e-10)


def test_depthwise_without_a_number_of_outputs(layer_net):
    """farmingyard's ConvolutionDepthwise has as many as the bottom has channels."""
    text = layer("kernel_size: 3 pad: 1", type_="ConvolutionDepthwise")
    net = layer_net(text, x=(2, 4, 5, 5))
    assert tuple(net.layer.weight.shape) == (4, 1, 3, 3)


def test_hole(layer_net, rng):
    net = layer_net(
        layer("num_output: 6 kernel_size: 3 hole: 2", type_="HoleConvolution"), x=(2, 4, 7, 6)
    )
    x, w, b = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(6, 4, 3, 3)), rng.normal(size=6)
    y, dx, *_, dy = convolution(x, w, b, lambda s: rng.normal(size=s), (1, 1), (0, 0), (2, 2), 1)
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-10)


def test_ristretto_is_in_full_precision(layer_net, rng):
    text = layer("num_output: 6 kernel_size: 3", type_="ConvolutionRistretto")
    text = text[: text.rindex("}")] + "quantization_param { bw_layer_in: 8 fl_params: 7 } }"
    with pytest.warns(UserWarning, match="ignored: quantization_param"):
        net = layer_net(text, x=(2, 4, 5, 6))
    x, w, b = rng.normal(size=(2, 4, 5, 6)), rng.normal(size=(6, 4, 3, 3)), rng.normal(size=6)
    y, dx, dw, _, dy = convolution(x, w, b, lambda s: rng.normal(size=s), (1, 1), (0, 0), (1, 1), 1)
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw, atol=1e-10)


def test_no_filler_is_zero(layer_net):
    net = layer_net(layer("num_output: 3 kernel_size: 2"), x=(1, 2, 4, 4))
    assert all(not blob.any() for blob in net.layer.blobs)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("num_output: 3 kernel_size: 2 group: 0", (1, 2, 4, 4), "group 0"),
        ("num_output: 3 kernel_size: 2 group: 2", (1, 2, 4, 4), "num_output 3 with group 2"),
        ("num_output: 4 kernel_size: 2 group: 2", (1, 3, 4, 4), "channels 3 with group 2"),
        ("kernel_size: 2", (1, 2, 4, 4), "num_output 0; expected at least 1"),
        ("num_output: 3 kernel_size: 2", (1, 2, 4, 4, 4, 4), "4 spatial axes"),
    ],
)
def test_impossible_options_are_refused(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=rf'layer "l" \(Convolution\): .*{message}'):
        layer_net(layer(options), x=shape)


def test_depthwise_refuses_another_group(layer_net):
    with pytest.raises(SphereFaceError, match="group 2; expected 4"):
        layer_net(
            layer("num_output: 8 kernel_size: 3 group: 2", type_="DepthwiseConvolution"),
            x=(2, 4, 5, 5),
        )


def test_changed_channels_are_refused(layer_net, rng):
    net = layer_net(layer("num_output: 3 kernel_size: 2"), x=(1, 2, 4, 4))
    assert net.run({"x": rng.normal(size=(3, 2, 9, 2))}).tops["y"].shape == (3, 3, 8, 1)
    with pytest.raises(SphereFaceError, match="expected 2 channels on axis 1"):
        net.run({"x": rng.normal(size=(1, 3, 4, 4))})


def test_channels_last_gives_the_same(rng):
    import torch

    net = load(
        'input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 '
        + layer('num_output: 4 kernel_size: 3 weight_filler { type: "xavier" }')
    )
    x = torch.from_numpy(rng.normal(size=(2, 3, 8, 8)).astype(np.float32))
    expected = net(x)["y"]
    net.to(memory_format=torch.channels_last)
    found = net(x.to(memory_format=torch.channels_last))["y"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "options", ["hole: 2 dilation: 2", "hole: 2 hole_h: 2", "hole_w: 2 dilation: 1"]
)
def test_hole_is_another_word_for_dilation(options, layer_net):
    with pytest.raises(SphereFaceError, match="hole together with dilation or hole_h/hole_w"):
        layer_net(layer(f"num_output: 1 kernel_size: 3 {options}"), x=(1, 1, 9, 9))


def test_the_convolution_of_c3d_is_one_of_three_axes(layer_net, rng):
    x = rng.normal(size=(2, 4, 5, 7, 6))
    options = "num_output: 6 group: 2"
    both = [
        layer_net(
            f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y"'
            f" convolution_param {{ {options} {more} }} }}",
            x=x.shape,
        )
        for kind, more in (
            (
                "Convolution3D",
                "kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 3 pad: 1"
                " temporal_pad: 2",
            ),
            ("Convolution", "kernel_size: [2, 3, 3] stride: [3, 2, 2] pad: [2, 1, 1]"),
        )
    ]
    weight, bias = rng.normal(size=(6, 2, 2, 3, 3)), rng.normal(size=6)
    found, expected = (net.set(weight=weight, bias=bias).run({"x": x}).tops["y"] for net in both)
    np.testing.assert_array_equal(found, expected)


def test_depth_is_refused_where_it_means_nothing(layer_net):
    text = (
        'layer { name: "l" type: "%s" bottom: "x" top: "y" convolution_param {'
        " num_output: 2 kernel_size: 3 kernel_depth: 3 } }"
    )
    with pytest.raises(SphereFaceError, match="kernel_depth; expected no such option"):
        layer_net(text % "Convolution", x=(1, 2, 4, 4))
    with pytest.raises(SphereFaceError, match="expected length, height, width"):
        layer_net(text % "Convolution3D", x=(1, 2, 4, 4))
