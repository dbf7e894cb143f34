from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "stored": example("BN", x=(1, 4, 13, 11)),
    "moving": example("BN", "moving_average: true decay: 0.05", x=(1, 4, 13, 11)),
    "segnet": example("BN", "bn_mode: INFERENCE", x=(1, 4, 13, 11)),
    "segnet_batch": example("BN", "bn_mode: LEARN", x=(2, 4, 13, 11), batch=False),
}

SHAPES = [(4, 3, 5, 2), (6, 3), (2, 3, 4)]


def layer(options: str = "", extra: str = "", top: str = "y") -> str:
    param = f"bn_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "BN" bottom: "x" top: "{top}" {extra} {param} }}'


def along(values, x):
    return np.reshape(values, (1, -1) + (1,) * (x.ndim - 2))


def blob(values):
    return np.reshape(values, (1, -1, 1, 1))


def bn(x, dy, slope, bias, eps):
    """y, dx, d slope, d bias, mean and biased variance, by the batch's statistics."""
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axes), x.var(axes)
    std = np.sqrt(along(variance, x) + eps)
    z = (x - along(mean, x)) / std
    dz = dy * along(slope, x)
    dx = (dz - dz.mean(axes, keepdims=True) - z * (dz * z).mean(axes, keepdims=True)) / std
    y = z * along(slope, x) + along(bias, x)
    return y, dx, (dy * z).sum(axes), dy.sum(axes), mean, variance


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("options", "momentum", "eps"), [("", 0.9, 1e-5), ("momentum: 0.75 eps: 0.125", 0.75, 0.125)]
)
def test_train(shape, options, momentum, eps, layer_net, rng):
    x, dy = rng.normal(2, 3, size=shape), rng.normal(size=shape)
    slope, bias, mean, variance = rng.uniform(1, 2, size=(4, 3))
    net = layer_net(layer(options), x=shape)
    net.set(weight=blob(slope), bias=blob(bias), mean=blob(mean), variance=blob(variance))
    result = net.run({"x": x}, {"y": dy})
    y, dx, dslope, dbias, batch_mean, batch_variance = bn(
        x, dy, slope, bias, float(np.float32(eps))
    )
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], blob(dslope), rtol=1e-9)
    np.testing.assert_allclose(result.param_diffs["bias"], blob(dbias), rtol=1e-9)
    keep = float(np.float32(momentum))
    for name, old, new in (("mean", mean, batch_mean), ("variance", variance, batch_variance)):
        np.testing.assert_allclose(
            getattr(net.layer, name), blob(keep * old + (1 - keep) * new), rtol=1e-9
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("options", "phase"), [("", "TEST"), ("frozen: true", "TRAIN")])
def test_running_statistics(shape, options, phase, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    slope, bias, mean, variance = rng.uniform(1, 2, size=(4, 3))
    net = layer_net(layer(options), phase, x=shape)
    net.set(weight=blob(slope), bias=blob(bias), mean=blob(mean), variance=blob(variance))
    result = net.run({"x": x}, {"y": dy})
    std = np.sqrt(variance + float(np.float32(1e-5)))
    expected = (x - along(mean, x)) * along(slope / std, x) + along(bias, x)
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * along(slope / std, x), rtol=1e-9)
    np.testing.assert_array_equal(net.layer.mean, blob(mean))
    assert sorted(result.param_diffs) == ([] if options else ["bias", "weight"])


def test_one_value_a_channel(layer_net, rng):
    x = rng.normal(size=(1, 3))
    net = layer_net(layer("momentum: 0.5"), x=x.shape)
    net.set(weight=blob([2.0, 2, 2]), bias=blob([3.0, 4, 5]), variance=blob([2.0, 2, 2]))
    result = net.run({"x": x}, {"y": np.ones_like(x)})
    assert result.tops["y"].tolist() == [[3, 4, 5]]
    assert not result.bottom_diffs["x"].any()
    assert not result.param_diffs["weight"].any()
    assert result.param_diffs["bias"].ravel().tolist() == [1, 1, 1]
    np.testing.assert_allclose(net.layer.mean, blob(x / 2))
    assert net.layer.variance.ravel().tolist() == [1, 1, 1]


def test_blobs_and_fillers(layer_net):
    plain = layer_net(layer(), x=(2, 3)).layer
    assert plain.blob_names == ["weight", "bias", "mean", "variance"]
    assert not any(b.any() for b in plain.blobs)
    assert (plain.lr_mult, plain.decay_mult) == ([1, 1, 0, 0], [1, 1, 0, 0])
    text = layer(
        'slope_filler { type: "constant" value: 1 } bias_filler { value: 0.5 } frozen: true',
        "param { lr_mult: 2 }",
        top="x",
    )
    net = layer_net(text, x=(2, 3))
    assert [b.unique().tolist() for b in net.layer.blobs] == [[1], [0.5], [0], [1]]
    assert (net.layer.lr_mult, net.layer.decay_mult) == ([0] * 4, [0] * 4)
    assert net.net.graph.nodes[-1].param.param[0].lr_mult == 2


def test_the_first_nets_of_pspnet(layer_net, rng):
    text = layer(
        'scale_filler { type: "constant" value: 1 } shift_filler { value: 0.5 }'
        " moving_average: true decay: 0.25"
    )
    net = layer_net(text, x=(4, 3, 5, 2))
    assert net.layer.blob_names == ["weight", "bias", "mean", "variance"]
    assert [b.unique().tolist() for b in net.layer.blobs] == [[1], [0.5], [0], [0]]
    x = rng.normal(2, 3, size=(4, 3, 5, 2))
    y, *_, mean, variance = bn(x, x, np.ones(3), np.full(3, 0.5), 1e-5)
    np.testing.assert_allclose(net.run({"x": x}).tops["y"], y, rtol=1e-7)
    np.testing.assert_allclose(net.layer.mean.flatten(), mean / 4, rtol=1e-9)
    np.testing.assert_allclose(net.layer.variance.flatten(), variance / 4, rtol=1e-9)


@pytest.mark.parametrize("decay", ["", "decay: 2"])
def test_a_moving_average_says_how_it_moves(decay, layer_net):
    with pytest.raises(SphereFaceError, match="expected above 0 and at most 1"):
        layer_net(layer(f"moving_average: true {decay}"), x=(2, 3))


def test_multipliers_of_the_file(layer_net):
    text = layer(extra="param { lr_mult: 2 decay_mult: 3 } " * 3)
    found = layer_net(text, x=(2, 3)).layer
    assert (found.lr_mult, found.decay_mult) == ([2, 2, 0, 0], [3, 3, 0, 0])


def test_bottoms_it_cannot_take(layer_net, rng):
    with pytest.raises(SphereFaceError, match="expected 2 to 4 axes"):
        layer_net(layer(), x=(3,))
    with pytest.raises(SphereFaceError, match="5 param entries; expected at most 4"):
        layer_net(layer(extra="param { } " * 5), x=(2, 3))
    with pytest.raises(SphereFaceError, match="expected 3 channels on axis 1"):
        layer_net(layer(), x=(2, 3)).run({"x": rng.normal(size=(2, 4))})


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("shape", SHAPES)
def test_segnet_learns_by_the_batch_in_both_phases(shape, phase, layer_net, rng):
    x, dy = rng.normal(2, 3, size=shape), rng.normal(size=shape)
    scale, shift = rng.uniform(1, 2, size=(2, 3))
    text = layer("shift_filler { value: 0.001 }").replace('top: "y"', 'top: "y" top: "m" top: "v"')
    net = layer_net(text, phase, x=shape).set(weight=blob(scale), bias=blob(shift))
    result = net.run({"x": x}, {"y": dy})
    y, dx, dscale, dshift, mean, variance = bn(x, dy, scale, shift, 1e-9)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.tops["m"], blob(mean), rtol=1e-9)
    np.testing.assert_allclose(result.tops["v"], blob(variance), rtol=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(result.param_diffs["weight"], blob(dscale), rtol=1e-9)
    np.testing.assert_allclose(result.param_diffs["bias"], blob(dshift), rtol=1e-9)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_segnet_inference_is_a_scale(phase, layer_net, rng):
    x, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    options = "bn_mode: INFERENCE scale_filler { value: 2 } shift_filler { value: 0.5 }"
    net = layer_net(
        layer(options, "param { lr_mult: 3 } param { decay_mult: 0 }"), phase, x=x.shape
    )
    assert (net.layer.lr_mult, net.layer.decay_mult) == ([3, 1], [1, 0])
    assert net.layer.blob_names == ["weight", "bias"]
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], 2 * x + 0.5, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], 2 * dy, rtol=1e-12)
    np.testing.assert_allclose(result.param_diffs["weight"], blob((dy * x).sum((0, 2, 3))))
    np.testing.assert_allclose(result.param_diffs["bias"], blob(dy.sum((0, 2, 3))))


def test_statistics_are_tops_of_learn_only(layer_net):
    text = layer("bn_mode: INFERENCE").replace('top: "y"', 'top: "y" top: "m"')
    with pytest.raises(SphereFaceError, match="2 tops; expected 1, or bn_mode: LEARN"):
        layer_net(text, x=(2, 3))
