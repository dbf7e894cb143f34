from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "blob": example("Bias", "axis: 1 num_axes: 2", x=(1, 4, 5, 6)),
    "bottom": example("Bias", "axis: 0", x=(1, 4, 5, 6), z=(1, 4, 5, 6)),
}

SHAPE = (2, 3, 4, 5)


def layer(options: str = "", bottoms: str = "x", top: str = "y") -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    param = f"bias_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "Bias" {names} top: "{top}" {param} }}'


# options: first and last axis of the bias
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
def test_blob(options, layer_net, rng):
    first, last = AXES[options]
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    bias = rng.normal(size=SHAPE[first:last])
    net = layer_net(layer(options, top="x"), x=SHAPE).set(bias=bias)
    result = net.run({"x": x}, {"x": dy})
    np.testing.assert_allclose(result.tops["x"], x + along(bias, last), rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy)
    np.testing.assert_allclose(result.param_diffs["bias"], dy.sum(others(first, last)), rtol=1e-9)


@pytest.mark.parametrize("options", AXES)
def test_second_bottom(options, layer_net, rng):
    first, last = AXES[options]
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    bias = rng.normal(size=SHAPE[first:last])
    net = layer_net(layer(options, "xb"), x=SHAPE, b=bias.shape)
    result = net.run({"x": x, "b": bias}, {"y": dy})
    assert net.layer.blob_names == []
    np.testing.assert_allclose(result.tops["y"], x + along(bias, last), rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["b"], dy.sum(others(first, last)), rtol=1e-9)


def test_filler(layer_net):
    assert not layer_net(layer(), x=SHAPE).layer.bias.any()
    filled = layer_net(layer("filler { value: 3 }"), x=SHAPE).layer
    assert filled.bias.tolist() == [3, 3, 3]


def test_batch_and_image_sizes_may_change(layer_net, rng):
    net = layer_net(layer(), x=SHAPE)
    x = rng.normal(size=(5, 3, 1, 2))
    np.testing.assert_array_equal(net.run({"x": x}).tops["y"], x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("axis: 4", "axis 4 for a bottom"),
        ("num_axes: -2", "num_axes -2 from axis 1 .*expected -1 to 3"),
        ("axis: 2 num_axes: 3", "num_axes 3 from axis 2 .*expected -1 to 2"),
    ],
)
def test_impossible_axes_are_refused(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=SHAPE)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (3, 4, 5, 1)])
def test_a_second_bottom_that_does_not_fit(shape, layer_net):
    with pytest.raises(SphereFaceError, match=r"bottom 1 of shape .*expected the sizes of"):
        layer_net(layer(bottoms="xb"), x=SHAPE, b=shape)


def test_changed_sizes_are_refused(layer_net, rng):
    with pytest.raises(SphereFaceError, match=r"blob bias of shape \(3,\) for a bottom of shape"):
        layer_net(layer(), x=SHAPE).run({"x": rng.normal(size=(2, 4, 4, 5))})
