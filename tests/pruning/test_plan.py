"""A pruned net in float64 against the whole one with the same channels silenced by hand.

A channel whose filter, bias and statistics are 0 stays 0 behind a rectifier, so both nets are the
same function. What is silenced is listed here, layer by layer.
"""

from __future__ import annotations

import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.inspection import summarize
from sphereface.pruning import plan_pruning
from sphereface.resources import prototxt_path

UNITS = {10: (0, 1, 2, 0), 20: (1, 2, 4, 1)}  # residual units of SphereFace's stages, by depth
TINY = 1e-12


def norms(net, name):
    return np.abs(net.layer(name).weight.detach().numpy()).sum(axis=(1, 2, 3))


def test_sphereface_4_is_the_net_with_its_weakest_filters_silent(pair):
    pruned = pair(prototxt_path("sphereface_4_deploy"), ratio=0.3)
    widths = {"conv1_1": 45, "conv2_1": 90, "conv3_1": 180, "conv4_1": 359}
    assert {row.name: row.after for row in pruned.plan.rows} == widths
    for name, width in widths.items():
        weakest = np.argsort(norms(pruned.full, name))[: len(pruned.removed(name))]
        assert pruned.removed(name).tolist() == sorted(weakest.tolist())
        assert pruned.small.layer(name).num_output == width
        pruned.silence(name)
    assert pruned.difference() < TINY
    below, params, macs = 3, 0, 0
    for size, width in zip((56 * 48, 28 * 24, 14 * 12, 7 * 6), widths.values(), strict=True):
        params += 9 * below * width + 2 * width
        macs += 9 * below * width * size
        below = width
    product = 512 * 359 * 42
    summary = summarize(pruned.small)
    assert (summary.params, summary.macs) == (params + product + 512, macs + product)


@pytest.mark.parametrize("depth", UNITS)
def test_what_residual_sums_join_is_pruned_together(depth, pair):
    net = prototxt_path(f"sphereface_{depth}_deploy")
    pruned = pair(net, {"data": (1, 3, 32, 32)}, ratio=0.25)
    for stage, units in enumerate(UNITS[depth], 1):
        joined = [f"conv{stage}_{conv}" for conv in range(1, 2 * units + 2, 2)]
        together = sum(norms(pruned.full, name) for name in joined)
        weakest = sorted(np.argsort(together)[: len(together) // 4].tolist())
        for name in joined:
            assert pruned.removed(name).tolist() == weakest
            pruned.silence(name)
        for conv in range(2, 2 * units + 1, 2):
            own = norms(pruned.full, f"conv{stage}_{conv}")
            weakest = sorted(np.argsort(own)[: len(own) // 4].tolist())
            assert pruned.removed(f"conv{stage}_{conv}").tolist() == weakest
            pruned.silence(f"conv{stage}_{conv}")
    assert pruned.difference() < TINY


def test_channels_of_residual_sums_can_be_kept(pair):
    pruned = pair(
        prototxt_path("sphereface_20_deploy"),
        {"data": (1, 3, 32, 32)},
        ratio=0.25,
        residual="keep",
    )
    for row in pruned.plan.rows:
        inner = int(row.name[-1]) % 2 == 0
        assert row.after == (row.before * 3 // 4 if inner else row.before)
        assert inner == (not row.why)
        if inner:
            pruned.silence(row.name)
    assert "goes into the sum res" in pruned.plan.rows[0].why
    assert pruned.difference() < TINY


DEPTHWISE = """name: "mobile"  # kept
input: "data" input_shape { dim: [2, 3, 9, 9] }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 12 kernel_size: 3 bias_term: false } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "slopes" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "deep" type: "Convolution" bottom: "conv" top: "deep"
  convolution_param { num_output: 24 group: 12 kernel_size: 3 pad: 1 } }
layer { name: "deep/bn" type: "BN" bottom: "deep" top: "deep" bn_param { eps: 0.001 } }
layer { name: "relu" type: "ReLU" bottom: "deep" top: "deep" }
layer { name: "deeper" type: "DepthwiseConvolution" bottom: "deep" top: "deeper"
  convolution_param { num_output: 24 kernel_size: 3 stride: 2 } }
layer { name: "last" type: "Convolution" bottom: "deeper" top: "last"
  convolution_param { num_output: 5 kernel_size: 1 } }
"""


def test_batch_normalisation_and_depthwise_convolutions_follow_their_producer(pair):
    pruned = pair(DEPTHWISE, ratio=0.5)
    sums = norms(pruned.full, "conv")
    for name in ("deep", "deeper"):
        sums = sums + norms(pruned.full, name).reshape(12, 2).sum(axis=1)
    gone = sorted(np.argsort(sums)[:6].tolist())
    both = sorted([2 * i for i in gone] + [2 * i + 1 for i in gone])
    assert pruned.removed("conv").tolist() == gone
    assert pruned.removed("deep").tolist() == pruned.removed("deeper").tolist() == both
    assert "num_output: 12 group: 6 kernel_size: 3 pad: 1" in pruned.pruned_text
    assert 'name: "mobile"  # kept' in pruned.pruned_text
    assert pruned.plan.rows[-1].why == 'blob "last" is an output of the net'
    pruned.silence("conv", "norm", "scale")
    pruned.silence("deep", "deep/bn")
    pruned.silence("deeper")
    assert pruned.difference() < TINY


BRANCHES = """input: "data" input_shape { dim: [2, 3, 7, 7] }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "b" type: "Convolution" bottom: "data" top: "b"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "quiet" type: "Silence" bottom: "a" bottom: "b" }
layer { name: "both" type: "Concat" bottom: "a" bottom: "b" top: "both" }
layer { name: "act" type: "PReLU" bottom: "both" top: "both" }
layer { name: "cut" type: "Slice" bottom: "both" top: "p" top: "q"
  slice_param { slice_point: 5 } }
layer { name: "c" type: "Convolution" bottom: "p" top: "c"
  convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "halves" type: "Slice" bottom: "c" top: "c1" top: "c2" }
layer { name: "most" type: "Eltwise" bottom: "c1" bottom: "c2" top: "most"
  eltwise_param { operation: MAX } }
layer { name: "d" type: "Deconvolution" bottom: "q" top: "d"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "pool" type: "Pooling" bottom: "d" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "down" type: "InnerProduct" bottom: "pool" top: "down"
  inner_product_param { num_output: 2 } }
layer { name: "squash" type: "ReLU" bottom: "down" top: "down" }
layer { name: "up" type: "InnerProduct" bottom: "down" top: "up"
  inner_product_param { num_output: 4 } }
layer { name: "gate" type: "Scale" bottom: "d" bottom: "up" top: "gate"
  scale_param { axis: 0 } }
layer { name: "end" type: "Concat" bottom: "most" bottom: "gate" top: "end" }
layer { name: "flat" type: "Flatten" bottom: "end" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc"
  inner_product_param { num_output: 3 transpose: true } }
"""


def test_concat_slice_maxima_deconvolution_and_gates(pair):
    pruned = pair(BRANCHES, ratio=0.5)
    gone_a = pruned.removed("a").tolist()
    assert len(gone_a) == 3
    assert len(pruned.removed("b")) == 2
    point = 5 - sum(channel < 5 for channel in gone_a)
    assert f"slice_point: {point}" in pruned.pruned_text
    maxima = norms(pruned.full, "c").reshape(2, 4).sum(axis=0)
    pairs = np.argsort(maxima)[:2]
    assert pruned.removed("c").tolist() == sorted([*pairs.tolist(), *(pairs + 4).tolist()])
    spread = np.abs(pruned.full.layer("d").weight.detach().numpy()).sum(axis=(0, 2, 3))
    assert pruned.removed("d").tolist() == sorted(np.argsort(spread)[:2].tolist())
    assert pruned.small.layer("up").num_output == 2
    assert pruned.small.layer("down").num_output == 2
    pruned.silence("a")
    pruned.silence("b")
    pruned.silence("c")
    deconvolution = pruned.full.layer("d")
    deconvolution.weight.data[:, pruned.removed("d")] = 0
    deconvolution.bias.data[pruned.removed("d")] = 0
    assert pruned.difference() < TINY


LEFT = """input: "data" input_shape { dim: [1, 3, 8, 8] }
layer { name: "one" type: "Convolution" bottom: "data" top: "one"
  convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "grouped" type: "Convolution" bottom: "one" top: "grouped"
  convolution_param { num_output: 8 group: 2 kernel_size: 1 } }
layer { name: "norm" type: "LRN" bottom: "grouped" top: "norm" }
layer { name: "two" type: "Convolution" bottom: "norm" top: "two"
  param { name: "w" } param { name: "b" } convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "three" type: "Convolution" bottom: "two" top: "three"
  param { name: "w" } param { name: "b" } convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "four" type: "Convolution" bottom: "three" top: "four"
  convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "five" type: "Convolution" bottom: "four" top: "five"
  convolution_param { num_output: 2 kernel_size: 1 } }
"""


def test_what_cannot_lose_channels_says_why(pair):
    pruned = pair(LEFT, ratio=0.5)
    assert {row.name: (row.after, row.why) for row in pruned.plan.rows} == {
        "one": (8, "feeds layer grouped, which has group 2"),
        "four": (4, ""),
        "five": (2, 'blob "five" is an output of the net'),
    }
    pruned.silence("four")
    assert pruned.difference() < TINY


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"fore": 3}, '--keep: no convolution "fore"; did you mean "four"'),
        ({"one": 3}, "--keep one=3: 8 of its channels have to stay: feeds layer grouped"),
        ({"four": 0}, "--keep four=0: 0; expected 1 to 8"),
        ({"four": 9}, "--keep four=9: 9; expected 1 to 8"),
    ],
)
def test_wishes_that_cannot_be_granted(keep, message):
    with pytest.raises(SphereFaceError, match=message):
        plan_pruning(load(LEFT), keep=keep)


def test_wishes_for_tied_and_joined_convolutions(pair):
    assert pair(DEPTHWISE, keep={"deep": 6}).plan.rows[0].after == 3
    with pytest.raises(SphereFaceError, match="5; expected 1 to 24, a multiple of 2"):
        pair(DEPTHWISE, keep={"deep": 5})
    with pytest.raises(SphereFaceError, match="different numbers for conv, deep"):
        pair(DEPTHWISE, keep={"deep": 6, "conv": 4})
    net = load(prototxt_path("sphereface_20_deploy"), input_shapes={"data": (1, 3, 32, 32)})
    rows = {row.name: row.after for row in plan_pruning(net, ratio=0.5, keep={"conv3_9": 99}).rows}
    assert [rows[f"conv3_{conv}"] for conv in range(1, 10)] == [99, 128] * 4 + [99]


def test_ratios_and_the_last_channel(pair):
    for ratio in (-0.1, 1.0, float("nan")):
        with pytest.raises(SphereFaceError, match="--ratio: .*expected 0 or more, and less than 1"):
            plan_pruning(load(LEFT), ratio=ratio)
    rows = pair(BRANCHES, ratio=0.99).plan.rows
    assert [row.after for row in rows] == [1, 1, 2, 1]


def test_ratio_is_rounded_down_but_not_by_floating_point():
    text = 'input: "data" input_shape { dim: [1, 1, 1, 1] }' + "".join(
        f'layer {{ name: "c{i}" type: "Convolution" bottom: "{bottom}" top: "c{i}" '
        f"convolution_param {{ num_output: 100 kernel_size: 1 }} }}"
        for i, bottom in enumerate(["data", "c0"])
    )
    assert 0.29 * 100 < 29
    assert plan_pruning(load(text), ratio=0.29).rows[0].after == 71


def test_another_prototxt_of_the_same_layers(pair):
    pruned = pair(prototxt_path("sphereface_4_deploy"), ratio=0.5)
    path = prototxt_path("sphereface_4_train")
    text = path.read_text()
    edited = pruned.plan.prototxt(path)
    changed = [
        (old.strip(), new.strip())
        for old, new in zip(text.splitlines(), edited.splitlines(), strict=True)
        if old != new
    ]
    widths = (64, 128, 256, 512)
    assert changed == [(f"num_output: {w}", f"num_output: {w // 2}") for w in widths]
    other = prototxt_path("sphereface_20_deploy").read_text().replace('"conv4_1"', '"conv"')
    with pytest.raises(SphereFaceError, match="no layer conv4_1; expected the layers of the net"):
        pruned.plan.prototxt(other)
