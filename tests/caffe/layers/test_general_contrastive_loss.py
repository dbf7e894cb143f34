from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("GeneralContrastiveLoss", x=(3, 4), label=(3,)),
    "near_first": example("GeneralContrastiveLoss", "positive_first: true", x=(3, 4), label=(3,)),
    "running": example(
        "GeneralContrastiveLoss", "add_intra_mae: true", x=(3, 4), label=(3,), tops=2
    ),
}

LABEL = np.array([2, 0, 3, 2])


def layer(options: str, tops: str = 'top: "loss" top: "means"', more: str = "") -> str:
    return (
        'layer { name: "l" type: "GeneralContrastiveLoss" bottom: "d" bottom: "label" '
        f"{tops} {more} general_contrastive_loss_param {{ {options} }} }}"
    )


def test_loss_and_gradient(layer_net, rng):
    options = "positive_margin: 0.5 negative_margin: 1.5 negative_weight: 0.25"
    d = rng.uniform(0, 2, size=(4, 5))
    net = layer_net(layer(options, more="loss_weight: 3 loss_weight: 0"), d=d.shape, label=(4,))
    result = net.run({"d": d, "label": LABEL})
    p = n = 0.0
    dd = np.zeros_like(d)
    for i in range(4):
        for j in range(5):
            if j == LABEL[i]:
                p += max(0.0, d[i, j] - 0.5)
                dd[i, j] = float(d[i, j] > 0.5)
            else:
                n += max(0.0, 1.5 - d[i, j])
                dd[i, j] = -0.25 * float(d[i, j] < 1.5)
    np.testing.assert_allclose(result.tops["loss"], (p + 0.25 * n) / 4, rtol=1e-12)
    np.testing.assert_allclose(result.tops["means"], [p / 4, n / 4 / 4], rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["d"], 3 * dd / 4, rtol=1e-12)
    assert (dd == 0).any()
    assert {-0.25, 1.0} < {*dd.ravel()}


def test_defaults_and_kinks(layer_net):
    net = layer_net(layer("", tops=""), d=(1, 3), label=(1,))
    result = net.run({"d": np.array([[1.0, 0.0, 0.25]]), "label": np.array([1])})
    np.testing.assert_allclose(result.tops["l"], 0.75)  # margins 0 and 1, weight 1
    np.testing.assert_allclose(result.bottom_diffs["d"], [[0, 0, -1]])


def test_label_out_of_range(layer_net):
    net = layer_net(layer(""), d=(1, 3), label=(1,))
    with pytest.raises(SphereFaceError, match=r"label\[\d\] is 3; expected 0 to 2"):
        net.run({"d": np.ones((1, 3)), "label": np.array([3])})
    with pytest.raises(SphereFaceError, match="the same first dimension"):
        layer_net(layer(""), d=(2, 3), label=(1,))


def by_hand(d, margin=1.5, **given):
    """Loss, gradient and means as the fork's loops have them, for one batch."""
    options = {
        "positive_weight": 1.0, "negative_weight": 0.5, "outlier": 4.0, "exp": False,
        "max_positive": False, "max_negative": False, "upper": None, "norm": None, **given,
    }  # fmt: skip
    rows, classes = d.shape
    part, dd = np.zeros_like(d), np.zeros_like(d)
    positive = negative = 0.0
    for i in range(rows):
        for j in range(classes):
            if j == LABEL[i]:
                part[i, j] = min(options["outlier"], max(0.0, d[i, j] - 0.5))
                positive += part[i, j]
            elif d[i, j] < margin:
                part[i, j] = np.exp(-d[i, j]) if options["exp"] else margin - d[i, j]
                negative += margin - d[i, j]
    own = part[range(rows), LABEL].copy()
    kept = int(own.argmin())
    loss = pushed = 0.0
    for i in range(rows):
        others = [j for j in range(classes) if j != LABEL[i]]
        worst = max(others, key=lambda j: part[i, j])
        far = options["upper"] is not None and d[i, LABEL[i]] > options["upper"]
        pull = not options["max_positive"] or i == kept
        loss += options["positive_weight"] * own[i] * pull
        inside = 0.5 < d[i, LABEL[i]] < options["outlier"]
        dd[i, LABEL[i]] = options["positive_weight"] * (far or (inside and pull))
        for j in others:
            if part[i, j] and not far and (not options["max_negative"] or j == worst):
                loss += options["negative_weight"] * part[i, j]
                slope = options["negative_weight"] * (part[i, j] if options["exp"] else 1)
                dd[i, j] = -slope
                pushed += slope
    if options["norm"] is not None and pushed / options["norm"] / rows > options["positive_weight"]:
        own_gradient = dd[range(rows), LABEL].copy()
        dd /= pushed / options["norm"] / rows
        dd[range(rows), LABEL] = own_gradient
    return loss / rows, dd / rows, [positive / rows, negative / rows / (classes - 1)]


VARIANTS = {
    "positive_weight: 3": {"positive_weight": 3.0},
    "positive_outlier_thresh: 0.75": {"outlier": 0.75},
    "exp_negative_weight: true": {"exp": True},
    "max_positive_only: true": {"max_positive": True},
    "max_negative_only: true": {"max_negative": True},
    "max_negative_only: true max_positive_only: true exp_negative_weight: true": {
        "max_positive": True, "max_negative": True, "exp": True,
    },
    "positive_first: true positive_upper_bound: 1.25": {"upper": 1.25},
    "positive_first: true": {"upper": 1.0},
    "normalize_negative: 0.5": {"norm": 0.5},
    "normalize_negative: 40": {"norm": 40.0},
    "normalize_negative: 0.5 exp_negative_weight: true": {"norm": 0.5, "exp": True},
}  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS)
def test_options_of_the_fork(options, layer_net, rng):
    d = rng.uniform(0, 2, size=(4, 5))
    d[range(4), LABEL] = [1.75, 0.625, 1.125, 0.375]
    text = layer(
        f"positive_margin: 0.5 negative_margin: 1.5 negative_weight: 0.5 {options}",
        more="loss_weight: 3 loss_weight: 0",
    )
    result = layer_net(text, d=d.shape, label=(4,)).run({"d": d, "label": LABEL})
    loss, dd, means = by_hand(d, **VARIANTS[options])
    plain = by_hand(d)
    assert (loss, dd.tolist(), means) != (plain[0], plain[1].tolist(), plain[2]) or "40" in options
    np.testing.assert_allclose(result.tops["loss"], loss, rtol=1e-10)
    np.testing.assert_allclose(result.tops["means"], means, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["d"], 3 * dd, rtol=1e-10, atol=1e-12)


def test_running_mean_of_the_positives(layer_net, rng):
    text = layer(
        "positive_margin: 0.5 negative_margin: 0.5 negative_weight: 0.5 add_intra_mae: true"
        " max_negative_margin: 0.011",
        more="loss_weight: 1 loss_weight: 0",
    )
    net, running = layer_net(text, d=(4, 5), label=(4,)), 0.0
    for phase in ("TRAIN", "TRAIN", "TRAIN", "TEST", "TEST"):
        d = rng.uniform(0, 2, size=(4, 5))
        net.net.train(phase == "TRAIN")
        result = net.run({"d": d, "label": LABEL})
        loss, dd, means = by_hand(d, margin=0.5 + running)
        followed = min(0.99 * running + 0.01 * means[0], np.float32(0.011))
        np.testing.assert_allclose(result.tops["loss"], loss, rtol=1e-9)
        np.testing.assert_allclose(result.tops["means"], [*means, followed], rtol=1e-6)
        np.testing.assert_allclose(result.bottom_diffs["d"], dd, rtol=1e-9, atol=1e-12)
        running = float(net.layer.intra_mae)
        if phase == "TRAIN":
            assert running == pytest.approx(followed, rel=1e-6)
    assert running == pytest.approx(0.011, rel=1e-6)


def test_square_is_not_computed(layer_net):
    with pytest.raises(SphereFaceError, match="square: true; expected false"):
        layer_net(layer("square: true"), d=(1, 3), label=(1,))
