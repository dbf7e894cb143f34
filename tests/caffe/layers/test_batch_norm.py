from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "stored": example("BatchNorm", images=True, x=(1, 4, 13, 11)),
    "of_batch": example("BatchNorm", "use_global_stats: false", x=(3, 4, 5, 6)),
    "affine": example("BatchNorm", "scale_bias: true", x=(1, 4, 13, 11)),
    "affine_of_batch": example(
        "BatchNorm", "scale_bias: true use_global_stats: false", x=(3, 4, 5, 6)
    ),
}

EPS = float(np.float32(1e-5))
SHAPES = [(4, 3, 5, 2), (6, 3), (2, 3, 4), (7,)]


def layer(options: str = "", extra: str = "", top: str = "y") -> str:
    param = f"batch_norm_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "BatchNorm" bottom: "x" top: "{top}" {extra} {param} }}'


def rows(x):
    """A row a channel."""
    return x.reshape(1, -1) if x.ndim == 1 else np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def unrows(r, x):
    if x.ndim == 1:
        return r.reshape(x.shape)
    moved = np.moveaxis(x, 1, 0)
    return np.moveaxis(r.reshape(moved.shape), 0, 1)


def by_batch(x, dy, eps):
    """y, dx, and the batch's mean and biased variance."""
    r, d = rows(x), rows(dy)
    mean, variance = r.mean(1), r.var(1)
    std = np.sqrt(variance + eps)[:, None]
    y = (r - mean[:, None]) / std
    dx = (d - d.mean(1, keepdims=True) - y * (d * y).mean(1, keepdims=True)) / std
    return unrows(y, x), unrows(dx, x), mean, variance


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("options", "fraction", "eps"),
    [("", 0.999, 1e-5), ("moving_average_fraction: 0.75 eps: 0.125", 0.75, 0.125)],
)
def test_train(shape, options, fraction, eps, layer_net, rng):
    x, dy = rng.normal(2, 3, size=shape), rng.normal(size=shape)
    net = layer_net(layer(options), x=shape)
    channels = len(rows(x))
    old = rng.uniform(1, 2, size=(2, channels))
    net.set(mean=old[0], variance=old[1], scale_factor=[3.0])
    result = net.run({"x": x}, {"y": dy})
    eps, fraction = float(np.float32(eps)), float(np.float32(fraction))
    y, dx, mean, variance = by_batch(x, dy, eps)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-10)
    m = x.size // channels
    np.testing.assert_allclose(net.layer.mean, fraction * old[0] + mean, rtol=1e-10)
    np.testing.assert_allclose(
        net.layer.variance, fraction * old[1] + variance * m / (m - 1), rtol=1e-10
    )
    np.testing.assert_allclose(net.layer.scale_factor, [fraction * 3 + 1], rtol=1e-12)
    assert result.param_diffs == {}


@pytest.mark.parametrize("shape", SHAPES)
def test_test_phase_divides_by_the_factor(shape, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    net = layer_net(layer(), "TEST", x=shape)
    mean, variance = rng.normal(size=len(rows(x))), rng.uniform(1, 9, size=len(rows(x)))
    result = net.set(mean=mean, variance=variance, scale_factor=[4.0]).run({"x": x}, {"y": dy})
    std = np.sqrt(variance / 4 + EPS)[:, None]
    np.testing.assert_allclose(
        result.tops["y"], unrows((rows(x) - mean[:, None] / 4) / std, x), rtol=1e-9
    )
    np.testing.assert_allclose(result.bottom_diffs["x"], unrows(rows(dy) / std, x), rtol=1e-9)
    np.testing.assert_array_equal(net.layer.mean, mean)
    np.testing.assert_array_equal(net.layer.scale_factor, [4])


def test_a_factor_of_0_means_zeros(layer_net, rng):
    """Untrained: mean and variance count as 0 whatever they hold."""
    x = rng.normal(size=(2, 3))
    net = layer_net(layer(), "TEST", x=x.shape).set(mean=[5.0, 5, 5], variance=[7.0, 7, 7])
    np.testing.assert_allclose(net.run({"x": x}).tops["y"], x / np.sqrt(EPS), rtol=1e-9)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("use", [True, False])
def test_use_global_stats_wins_over_the_phase(phase, use, layer_net, rng):
    x = rng.normal(size=(4, 3, 2, 2))
    net = layer_net(layer(f"use_global_stats: {str(use).lower()}"), phase, x=x.shape)
    net.set(mean=[1.0, 2, 3], variance=[4.0, 5, 6], scale_factor=[1.0])
    result = net.run({"x": x}, {"y": np.ones_like(x)})
    if use:
        mean, std = np.array([1, 2, 3.0]), np.sqrt(np.array([4, 5, 6]) + EPS)
        expected = unrows((rows(x) - mean[:, None]) / std[:, None], x)
        assert net.layer.scale_factor.tolist() == [1]
    else:
        expected = by_batch(x, x, EPS)[0]
        assert net.layer.scale_factor[0] > 1.9
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-9, atol=1e-11)


def test_train_then_eval_changes_the_statistics_used(layer_net, rng):
    x = rng.normal(5, 2, size=(50, 3))
    net = layer_net(layer("moving_average_fraction: 0.5"), x=x.shape)
    for _ in range(3):
        net.run({"x": x})
    np.testing.assert_allclose(net.layer.scale_factor, [1.75])
    net.net.eval()
    y = net.run({"x": x[:2]}).tops["y"]
    expected = (x[:2] - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + EPS)
    np.testing.assert_allclose(y, expected, rtol=1e-9)


def test_one_value_a_channel(layer_net, rng):
    """No bias correction: m / (m - 1) would be 1 / 0."""
    x = rng.normal(size=(1, 3, 1, 1))
    net = layer_net(layer("moving_average_fraction: 0.5"), x=x.shape)
    result = net.set(variance=[2.0, 2, 2]).run({"x": x}, {"y": np.ones_like(x)})
    assert not result.tops["y"].any()
    assert not result.bottom_diffs["x"].any()
    np.testing.assert_allclose(net.layer.mean, x.ravel())
    assert net.layer.variance.tolist() == [1, 1, 1]


def test_blobs_start_at_0_and_never_learn(layer_net):
    net = layer_net(layer(), x=(2, 3))
    assert net.layer.blob_names == ["mean", "variance", "scale_factor"]
    assert [tuple(b.shape) for b in net.layer.blobs] == [(3,), (3,), (1,)]
    assert not any(b.any() for b in net.layer.blobs)
    assert net.layer.lr_mult == [0, 0, 0]
    assert [b.lr_mult for b in net.net.learnable_blobs()] == [0, 0, 0]
    assert list(net.net.parameters()) == []
    # The graph's own message is as the file has it.
    assert len(net.net.graph.nodes[-1].param.param) == 0


def test_in_place_and_named_blobs(layer_net, rng):
    names = "".join(f'param {{ name: "{n}" lr_mult: 0 }} ' for n in "abc")
    x = rng.normal(size=(4, 3))
    net = layer_net(layer(extra=names, top="x"), x=x.shape)
    np.testing.assert_allclose(net.run({"x": x}).tops["x"], by_batch(x, x, EPS)[0], rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_half_precision_keeps_the_sums(dtype, phase, rng):
    """Sums of 1000 batches with variance 100 are beyond float16."""
    net = load('input: "x" input_shape { dim: 8 dim: 3 dim: 4 dim: 4 } ' + layer(), phase=phase)
    (blobs,) = (net.layer("l"),)
    blobs.mean.fill_(2000)
    blobs.variance.fill_(100_000)
    blobs.scale_factor.fill_(1000)
    net.to(dtype)
    x = torch.tensor(rng.normal(2, 10, size=(8, 3, 4, 4)), dtype=dtype)
    y = net(x)["y"]
    assert y.dtype == dtype
    assert blobs.variance.dtype == torch.float32
    r = rows(x.double().numpy())
    mean, std = (r.mean(1), r.std(1)) if phase == "TRAIN" else (np.full(3, 2.0), np.full(3, 10.0))
    expected = (r - mean[:, None]) / std[:, None]
    np.testing.assert_allclose(rows(y.double().numpy()), expected, atol=0.03)
    assert bool((blobs.variance > 99_000).all())


def test_autocast_computes_in_float32(rng):
    conv = (
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param '
        '{ num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }'
    )
    text = 'input: "x" input_shape { dim: 8 dim: 3 dim: 4 dim: 4 } ' + conv
    net = load(text + layer().replace('bottom: "x"', 'bottom: "c"'), phase="TRAIN")
    x = torch.tensor(rng.normal(size=(8, 3, 4, 4)), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(x, blobs=("c",))
    c = outputs["c"].detach().double().numpy()
    assert outputs["c"].dtype == torch.bfloat16
    assert net.layer("l").mean.dtype == torch.float32
    np.testing.assert_allclose(net.layer("l").mean, rows(c).mean(1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(net.layer("l").variance, rows(c).var(1, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(
        outputs["y"].detach().double().numpy(), by_batch(c, c, 1e-5)[0], atol=0.02
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (layer(extra="param { lr_mult: 1 }"), "param 0 has lr_mult 1; expected lr_mult: 0"),
        (layer(extra="param { }"), "param 0 has lr_mult 1"),
        (layer(extra="param { lr_mult: 0 } " * 4), "4 param entries; expected at most 3"),
    ],
)
def test_statistics_that_should_learn_are_refused(text, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(text, x=(2, 3))


def test_changed_channels_are_refused(layer_net, rng):
    net = layer_net(layer(), x=(2, 3))
    with pytest.raises(SphereFaceError, match="expected 3 channels on axis 1"):
        net.run({"x": rng.normal(size=(2, 4))})
    with pytest.raises(SphereFaceError, match="bottom without axes"):
        layer_net(layer(), x=())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_scale_and_bias_in_the_same_layer(phase, shape, layer_net, rng):
    x, dy = rng.normal(2, 3, size=shape), rng.normal(size=shape)
    net = layer_net(layer("scale_bias: true"), phase, x=shape)
    channels = len(rows(x))
    weight, bias, mean = rng.normal(size=(3, channels))
    variance = rng.uniform(1, 2, size=channels)
    net.set(weight=weight, bias=bias, mean=mean, variance=variance, scale_factor=[1.0])
    result = net.run({"x": x}, {"y": dy})
    spread = unrows(weight[:, None] * np.ones_like(rows(x)), x)
    z, dx, *_ = by_batch(x, dy * spread, EPS)
    if phase == "TEST":
        std = np.sqrt(variance + EPS)[:, None]
        z = unrows((rows(x) - mean[:, None]) / std, x)
        dx = unrows(rows(dy * spread) / std, x)
    y = unrows(rows(z) * weight[:, None] + bias[:, None], x)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-9)
    dweight, dbias = (rows(dy) * rows(z)).sum(1), rows(dy).sum(1)
    np.testing.assert_allclose(result.param_diffs["weight"], dweight, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(result.param_diffs["bias"], dbias, rtol=1e-9, atol=1e-9)


def test_scale_and_bias_start_and_learn(layer_net, rng):
    found = layer_net(layer("scale_bias: true"), x=(2, 3)).layer
    assert found.blob_names == ["mean", "variance", "scale_factor", "weight", "bias"]
    assert [b.tolist() for b in found.blobs[3:]] == [[1] * 3, [0] * 3]
    assert (found.lr_mult, found.decay_mult) == ([0, 0, 0, 1, 1], [1] * 5)
    extra = "param { lr_mult: 0 } " * 3 + "param { lr_mult: 2 } param { decay_mult: 0 }"
    text = layer("scale_filler { value: 2 } bias_filler { value: 3 }", extra)
    found = layer_net(text, x=(2, 3)).layer
    assert [b.tolist() for b in found.blobs[3:]] == [[2] * 3, [3] * 3]
    assert (found.lr_mult[3:], found.decay_mult[3:]) == ([2, 1], [1, 0])
    net = layer_net(text, x=(1, 3))  # one value a channel
    assert net.run({"x": rng.normal(size=(1, 3))}).tops["y"].tolist() == [[3, 3, 3]]
