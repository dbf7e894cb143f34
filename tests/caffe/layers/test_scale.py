from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "gain_and_bias": example("Scale", "bias_term: true", images=True, x=(1, 4, 13, 11)),
    "one_factor": example("Scale", "num_axes: 0", x=(1, 4, 13, 11)),
    "bottom": example("Scale", "axis: 0", x=(1, 4, 5, 6), z=(1, 4)),
    "at_least": example("Scale", "min_value: 0.1", x=(1, 4, 13, 11)),
    "within": example("Scale", "max_value: 0.1", x=(1, 4, 5, 6)),
}

SHAPE = (2, 3, 4, 5)


def layer(options: str = "", bottoms: str = "x", top: str = "y") -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    param = f"scale_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "Scale" {names} top: "{top}" {param} }}'


# options: first and last axis of the factor
AXES = {
    "": (1, 2),
    "axis: 0": (0, 1),
    "axis: -1": (3, 4),
    "axis: 1 num_axes: 2": (1, 3),
    "axis: 0 num_axes: -1": (0, 4),
    "axis: -2 num_axes: -1": (2, 4),
    "num_axes: 0": (4, 4),
}


def others(first, last):
    return tuple(i for i in range(4) if not first <= i < last)


def along(values, last):
    return np.reshape(values, np.shape(values) + (1,) * (4 - last))


@pytest.mark.parametrize("options", AXES)
@pytest.mark.parametrize("bias_term", [False, True])
def test_blob(options, bias_term, layer_net, rng):
    first, last = AXES[options]
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    blobs = {"weight": rng.normal(size=SHAPE[first:last])}
    y = x * along(blobs["weight"], last)
    if bias_term:
        options += " bias_term: true"
        blobs["bias"] = rng.normal(size=SHAPE[first:last])
        y = y + along(blobs["bias"], last)
    net = layer_net(layer(options, top="x"), x=SHAPE).set(**blobs)
    assert net.layer.blob_names == list(blobs)
    result = net.run({"x": x}, {"x": dy})
    np.testing.assert_allclose(result.tops["x"], y, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        result.bottom_diffs["x"], dy * along(blobs["weight"], last), rtol=1e-10
    )
    axes = others(first, last)
    np.testing.assert_allclose(result.param_diffs["weight"], (x * dy).sum(axes), rtol=1e-9)
    if bias_term:
        np.testing.assert_allclose(result.param_diffs["bias"], dy.sum(axes), rtol=1e-9)


@pytest.mark.parametrize("options", AXES)
@pytest.mark.parametrize("bias_term", [False, True])
def test_second_bottom(options, bias_term, layer_net, rng):
    first, last = AXES[options]
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    factor, bias = rng.normal(size=(2, *SHAPE[first:last]))
    net = layer_net(
        layer(options + (" bias_term: true" if bias_term else ""), "xf"), x=SHAPE, f=factor.shape
    )
    if bias_term:
        net.set(bias=bias)
    result = net.run({"x": x, "f": factor}, {"y": dy})
    assert net.layer.blob_names == (["bias"] if bias_term else [])
    expected = x * along(factor, last) + (along(bias, last) if bias_term else 0)
    axes = others(first, last)
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * along(factor, last), rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["f"], (x * dy).sum(axes), rtol=1e-9)
    if bias_term:
        np.testing.assert_allclose(result.param_diffs["bias"], dy.sum(axes), rtol=1e-9)


def test_a_scalar_second_bottom_needs_no_axis(layer_net):
    net = layer_net(layer(bottoms="xf"), x=(3,), f=())
    result = net.run({"x": np.arange(3.0), "f": np.array(2.0)}, {"y": np.ones(3)})
    assert result.tops["y"].tolist() == [0, 2, 4]
    assert result.bottom_diffs["f"] == 3


def test_fillers(layer_net):
    plain = layer_net(layer("bias_term: true"), x=SHAPE).layer
    assert (plain.weight.tolist(), plain.bias.tolist()) == ([1] * 3, [0] * 3)
    options = "bias_term: true filler { value: 30 } bias_filler { value: 2 }"
    filled = layer_net(layer(options), x=SHAPE).layer
    assert (filled.weight.tolist(), filled.bias.tolist()) == ([30] * 3, [2] * 3)
    # A filler without a value is Caffe's filler: constant 0.
    assert not layer_net(layer("filler { }"), x=SHAPE).layer.weight.any()


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_limits_of_the_factor(phase, layer_net, rng):
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    options = "min_value: 0.5 max_value: 1.5"
    net = layer_net(layer(options), phase, x=SHAPE).set(weight=[0.25, 0.5, 2])
    result = net.run({"x": x}, {"y": dy})
    factor = along([0.5, 0.5, 1.5], 2)
    np.testing.assert_allclose(result.tops["y"], x * factor, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * factor, rtol=1e-12)
    np.testing.assert_allclose(result.param_diffs["weight"], (x * dy).sum((0, 2, 3)), rtol=1e-9)
    assert net.layer.weight.tolist() == ([0.5, 0.5, 1.5] if phase == "TRAIN" else [0.25, 0.5, 2])


def test_min_value_of_a_second_bottom(layer_net):
    net = layer_net(layer("min_value: 1", "xf"), x=(2, 3), f=(3,))
    factor = np.array([-1.0, 1, 3])
    result = net.run({"x": np.ones((2, 3)), "f": factor}, {"y": np.ones((2, 3))})
    assert result.tops["y"].tolist() == [[1, 1, 3]] * 2
    assert result.bottom_diffs["f"].tolist() == [2, 2, 2]
    assert factor.tolist() == [-1, 1, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(dtype, rng):
    text = 'input: "x" input_shape { dim: 2 dim: 3 dim: 4 } ' + layer("bias_term: true")
    x = torch.tensor(rng.normal(size=(2, 3, 4)), dtype=dtype)
    net = load(text)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x)["y"].dtype in (dtype, torch.float32)
    assert torch.equal(net.to(dtype)(x)["y"], x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("axis: 4", "axis 4 for a bottom"),
        ("num_axes: -2", "num_axes -2 from axis 1 .*expected -1 to 3"),
        ("axis: 2 num_axes: 3", "num_axes 3 from axis 2 .*expected -1 to 2"),
    ],
)
def test_impossible_options_are_refused(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=SHAPE)


def test_sizes_that_do_not_fit(layer_net, rng):
    with pytest.raises(SphereFaceError, match=r"bottom 1 of shape \(4,\)"):
        layer_net(layer(bottoms="xf"), x=SHAPE, f=(4,))
    with pytest.raises(SphereFaceError, match=r"blob weight of shape \(3,\) for a bottom of shape"):
        layer_net(layer(), x=SHAPE).run({"x": rng.normal(size=(2, 4, 4, 5))})
