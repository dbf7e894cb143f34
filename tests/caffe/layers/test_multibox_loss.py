from __future__ import annotations

import numpy as np
import pytest

from reference.detection import overlap
from reference.layer_examples import example
from reference.multibox import CLASSES, PRIORS, layer, loss, sample
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "plain": example(
        "MultiBoxLoss",
        "num_classes: 3 code_type: CENTER_SIZE",
        loc=(2, 128),
        conf=(2, 96),
        prior=(1, 2, 128),
        truth=(1, 1, 2, 8),
    ),
    "refined": example(
        "MultiBoxLoss",
        "num_classes: 3 code_type: CENTER_SIZE objectness_score: 0.2",
        loc=(2, 128),
        conf=(2, 96),
        prior=(1, 2, 128),
        truth=(1, 1, 2, 8),
        object=(2, 64),
        moved=(2, 128),
    ),
}


CASES = {
    "defaults": ("", {}),
    "center_size": ("code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    "corner_size": ("code_type: CORNER_SIZE", {"code": "CORNER_SIZE"}),
    "l2": ("loc_loss_type: L2 loc_weight: 0.25", {"squared": True, "weight": 0.25}),
    "logistic": ("conf_loss_type: LOGISTIC", {"logistic": True}),
    "logistic_all": (
        "conf_loss_type: LOGISTIC mining_type: NONE", {"logistic": True, "mining": "NONE"},
    ),
    "ratio": ("neg_pos_ratio: 1.5 neg_overlap: 0.2", {"ratio": 1.5, "neg_overlap": 0.2}),
    "all": ("mining_type: NONE", {"mining": "NONE"}),
    "old_all": ("do_neg_mining: false", {"mining": "NONE"}),
    "hard": (
        "mining_type: HARD_EXAMPLE sample_size: 9", {"mining": "HARD_EXAMPLE", "sample_size": 9},
    ),
    "hard_nms": (
        "mining_type: HARD_EXAMPLE sample_size: 9 use_prior_for_nms: true"
        " nms_param { nms_threshold: 0.2 }",
        {"mining": "HARD_EXAMPLE", "sample_size": 9, "nms": 0.2},
    ),
    "bipartite": ("match_type: BIPARTITE", {"each": False}),
    "easy": ("use_difficult_gt: false", {"difficult": False}),
    "in_target": ("encode_variance_in_target: true", {"in_target": True}),
    "inside": ("bp_inside: true", {"inside": True}),
    "own_location": (
        "share_location: false mining_type: NONE", {"share": False, "mining": "NONE"},
    ),
    "predictions": ("use_prior_for_matching: false", {"use_prior": False}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_prior_by_prior(name, run_multibox, rng):
    options, given = CASES[name]
    bottoms = sample(rng, CLASSES if given.get("share") is False else 1)
    result = run_multibox(bottoms, options)
    assert result.tops["loss"] == pytest.approx(loss(**bottoms, **given), rel=1e-6)
    assert set(result.bottom_diffs) == {"loc", "conf"}
    for blob, gradient in result.bottom_diffs.items():
        way = rng.normal(size=gradient.shape)
        sides = [
            loss(**{**bottoms, blob: bottoms[blob] + step * way}, **given) for step in (1e-6, -1e-6)
        ]
        slope = (sides[0] - sides[1]) / 2e-6
        assert abs(slope) > 1e-3
        assert (gradient * way).sum() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
def test_normalization(mode, run_multibox, rng):
    bottoms = sample(rng)
    result = run_multibox(bottoms, fields=f"loss_param {{ normalization: {mode} }}")
    expected = loss(**bottoms, normalization=mode)
    assert result.tops["loss"] == pytest.approx(expected, rel=1e-6)


def test_agnostic(run_multibox, rng):
    bottoms = sample(rng)
    bottoms["conf"] = bottoms["conf"][:, : 2 * PRIORS]
    result = run_multibox(bottoms, "map_object_to_agnostic: true", classes=2)
    assert result.tops["loss"] == pytest.approx(loss(**bottoms, agnostic=True), rel=1e-6)


def test_no_true_boxes(run_multibox, rng):
    bottoms = sample(rng) | {"truth": np.full((1, 1, 2, 8), -1.0)}
    assert run_multibox(bottoms).tops["loss"] == 0
    everything = run_multibox(bottoms, "mining_type: NONE")
    assert everything.tops["loss"] == pytest.approx(loss(**bottoms, mining="NONE"), rel=1e-6)


def test_overlap_of_the_sample(rng):
    """The sample's boxes do match, or the tests above would say little."""
    bottoms = sample(rng)
    boxes, truth = bottoms["prior"][0, 0].reshape(-1, 4), bottoms["truth"].reshape(-1, 8)
    assert overlap(boxes[2], truth[0, 3:7]) > 0.5


SHAPES = {"loc": (3, 80), "conf": (3, 80), "prior": (1, 2, 80), "truth": (1, 1, 4, 8)}


@pytest.mark.parametrize(
    ("options", "classes", "shapes", "message"),
    [
        ("", 3, {}, "scores of shape .* expected 60 values"),
        ("share_location: false", 4, {}, "expected mining_type: NONE"),
        ("map_object_to_agnostic: true", 4, {}, "map_object_to_agnostic; expected 2"),
        ("", 4, {"prior": (1, 1, 80)}, "priors of shape"),
        ("", 4, {"truth": (1, 1, 4, 7)}, "true boxes of shape"),
    ],
)
def test_what_does_not_fit(options, classes, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(SHAPES, options, classes=classes), **(SHAPES | shapes))


def test_classes_that_are_not_given(layer_net):
    text = layer(SHAPES, "").replace(f"num_classes: {CLASSES}", "")
    with pytest.raises(SphereFaceError, match="num_classes is not given"):
        layer_net(text, **SHAPES)


@pytest.mark.parametrize("label", [0, 4])
def test_labels_that_are_none(label, run_multibox, rng):
    bottoms = sample(rng)
    bottoms["truth"][0, 0, 0, 1] = label
    with pytest.raises(SphereFaceError, match=f"a true box of label {label}"):
        run_multibox(bottoms)
