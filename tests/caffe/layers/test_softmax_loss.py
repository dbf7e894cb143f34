from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "ignored": example(
        "SoftmaxWithLoss", fields="loss_param { ignore_label: 1 }", x=(3, 4), label=(3,)
    ),
    "each": example(
        "SoftmaxWithLossOHEM",
        fields="loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 8 }",
        tops=3, x=(3, 4), label=(3,),
    ),
}  # fmt: skip


def layer(loss: str = "", softmax: str = "", tops: str = 'top: "y"', extra: str = "") -> str:
    return (
        f'layer {{ name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" {tops} {extra}'
        f" loss_param {{ {loss} }} softmax_param {{ {softmax} }} }}"
    )


def softmax_loss(x, t, axis=1, ignore=None, normalizer="VALID", weight=1.0):
    """Loss, probabilities and dx, label by label."""
    rows = np.moveaxis(x, axis, -1)
    p = np.exp(rows - rows.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    flat, labels = p.reshape(-1, p.shape[-1]), t.reshape(-1).astype(int)
    loss, diff, valid = 0.0, flat.copy(), 0
    for row, label in enumerate(labels):
        if label == ignore:
            diff[row] = 0
            continue
        valid += 1
        loss -= np.log(max(flat[row, label], np.finfo(np.float32).tiny))
        diff[row, label] -= 1
    divisor = {
        "FULL": len(labels),
        "VALID": max(valid, 1),
        "BATCH_SIZE": np.prod(x.shape[:axis]),
        "NONE": 1,
    }[normalizer]
    dx = np.moveaxis(diff.reshape(rows.shape), -1, axis) * weight / divisor
    return loss / divisor, np.moveaxis(p, -1, axis), dx


@pytest.mark.parametrize("normalization", ["FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", [None, 2])
def test_normalizations_on_a_map(normalization, ignore, layer_net, rng):
    x, t = rng.normal(size=(3, 5, 2, 4)), rng.integers(0, 5, size=(3, 2, 4))
    t[0, 0, :2] = 2
    loss = f"normalization: {normalization}" + (
        "" if ignore is None else f" ignore_label: {ignore}"
    )
    net = layer_net(layer(loss), x=x.shape, t=t.shape)
    expected, _, dx = softmax_loss(x, t, 1, ignore, normalization)
    result = net.run({"x": x, "t": t})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)
    assert "t" not in result.bottom_diffs


@pytest.mark.parametrize(
    ("loss", "normalization"),
    [
        ("", "VALID"),
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: false normalization: FULL", "FULL"),
    ],
)
def test_the_old_normalize(loss, normalization, layer_net, rng):
    x, t = rng.normal(size=(3, 5, 2)), rng.integers(0, 5, size=(3, 1, 2))
    net = layer_net(layer(f"{loss} ignore_label: 1"), x=x.shape, t=t.shape)
    expected, _, dx = softmax_loss(x, t, 1, 1, normalization)
    result = net.run({"x": x, "t": t})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axis_and_probabilities(axis, layer_net, rng):
    x = rng.normal(size=(4, 4, 4))
    t = rng.integers(0, 4, size=(4, 4))
    text = layer(softmax=f"axis: {axis}", tops='top: "y" top: "p"', extra="loss_weight: [3, 0]")
    net = layer_net(text, x=x.shape, t=t.shape)
    loss, p, dx = softmax_loss(x, t, axis % 3, weight=3)
    result = net.run({"x": x, "t": t})
    assert net.net.loss_weights == {"y": 3.0}
    np.testing.assert_allclose(result.tops["y"], loss, rtol=1e-10)
    np.testing.assert_allclose(result.tops["p"], p, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)


def test_all_labels_ignored(layer_net, rng):
    x, t = rng.normal(size=(3, 5)), np.full(3, 255)
    result = layer_net(layer("ignore_label: 255"), x=x.shape, t=t.shape).run({"x": x, "t": t})
    assert result.tops["y"] == 0
    assert not result.bottom_diffs["x"].any()


def test_one_value_is_capped_with_the_gradient_kept(layer_net):
    x, t = np.array([[0.0, 500.0], [1.0, 0.0]]), np.array([0, 0])
    result = layer_net(layer("normalization: NONE"), x=x.shape, t=t.shape).run({"x": x, "t": t})
    np.testing.assert_allclose(result.tops["y"], 87.33654 + np.log1p(np.exp(-1)), rtol=1e-6)
    np.testing.assert_allclose(result.bottom_diffs["x"][0], [-1, 1])


def test_the_top_may_be_left_out(layer_net, rng):
    x, t = rng.normal(size=(3, 5)), rng.integers(0, 5, size=3)
    net = layer_net(layer(tops=""), x=x.shape, t=t.shape)
    assert net.net.outputs == ()
    outputs = net.net({"x": torch.tensor(x), "t": torch.tensor(t)})
    assert list(outputs) == ["l"]
    np.testing.assert_allclose(float(net.net.loss(outputs)), softmax_loss(x, t)[0], rtol=1e-10)


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_out_of_range(label, layer_net, rng):
    x, t = rng.normal(size=(3, 5)), np.array([0, label, 1])
    with pytest.raises(
        SphereFaceError, match=rf'layer "l" .*label\[1\] is {label}; expected 0 to 4'
    ):
        layer_net(layer(), x=x.shape, t=t.shape).run({"x": x, "t": t})


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        ((3, 5), (4,), r"4 labels .*expected 3 labels"),
        ((3, 5, 2), (2, 3), r"\(3, 5, 2\) and \(2, 3\); expected the same first dimension"),
        ((1, 5), (), r"\(1, 5\) and \(\); expected the same first dimension"),
    ],
)
def test_the_number_of_labels(x, t, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(), x=x, t=t)


def weighted_loss(x, t, weight, ignore=None):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    kept = [i for i in range(len(t)) if t[i] != ignore]
    loss = -sum(weight[t[i]] * np.log(p[i, t[i]]) for i in kept) / len(kept)
    dx = np.zeros_like(x)
    for i in kept:
        dx[i] = weight[t[i]] * (p[i] - np.eye(x.shape[1])[t[i]]) / len(kept)
    return loss, dx


@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize("given", [True, False])
def test_weights_of_classes(given, ignore, layer_net, rng):
    """As the file gives them, or one over how often the class is in the batch."""
    x, t = rng.normal(size=(5, 3)), np.array([2, 0, 2, 1, 2])
    weight = [0.5, 3, 0.25] if given else [1, 1, 1 / 3]
    loss = "weight_by_label_freqs: true"
    loss += " class_weighting: [0.5, 3, 0.25]" * given
    loss += f" ignore_label: {ignore}" * (ignore is not None)
    result = layer_net(layer(loss), x=x.shape, t=(5,)).run({"x": x, "t": t})
    expected, dx = weighted_loss(x, t, weight, ignore)
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-12)
    unused = loss.replace("true", "false")
    result = layer_net(layer(unused), x=x.shape, t=(5,)).run({"x": x, "t": t})
    expected, dx = weighted_loss(x, t, [1, 1, 1], ignore)
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-9)


def test_forms_of_other_forks(layer_net):
    layer_net(layer(softmax='normalize_type: "Softmax"'), x=(2, 3), t=(2,))
    with pytest.raises(SphereFaceError, match='normalize_type "L2"; expected "Softmax"'):
        layer_net(layer(softmax='normalize_type: "L2"'), x=(2, 3), t=(2,))
    text = "weight_by_label_freqs: true class_weighting: [1, 2]"
    with pytest.raises(SphereFaceError, match="2 class_weighting; expected one for each of 3"):
        layer_net(layer(text), x=(2, 3), t=(2,))


def test_the_loss_of_each_label(layer_net, rng):
    x, label = rng.normal(size=(4, 3)), np.array([0.0, 2, 1, 2]).reshape(4, 1)
    text = (
        'layer { name: "l" type: "SoftmaxWithLossOHEM" bottom: "x" bottom: "label" top: "loss"'
        ' top: "prob" top: "each" loss_weight: 1 loss_weight: 0 loss_weight: 0'
        " loss_param { ignore_label: 1 normalization: PRE_FIXED pre_fixed_normalizer: 8 } }"
    )
    result = layer_net(text, x=(4, 3), label=(4, 1)).run({"x": x, "label": label})
    prob = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    counted = np.array([1, 1, 0, 1])
    each = -np.log(prob[np.arange(4), [0, 2, 1, 2]]) * counted
    np.testing.assert_allclose(result.tops["prob"], prob, rtol=1e-12)
    np.testing.assert_allclose(result.tops["each"], each[:, None], rtol=1e-12)
    np.testing.assert_allclose(result.tops["loss"], each.sum() / 8, rtol=1e-12)
    slope = (prob - np.eye(3)[[0, 2, 1, 2]]) * counted[:, None] / 8
    np.testing.assert_allclose(result.bottom_diffs["x"], slope, rtol=1e-12)
