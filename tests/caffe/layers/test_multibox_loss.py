from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.detection import overlap, suppress
from reference.layer_examples import example
from sphereface.caffe.box_matching import match_boxes
from sphereface.errors import SphereFaceError

PRIORS, CLASSES = 20, 4
EXAMPLES = {
    "plain": example(
        "MultiBoxLoss",
        "num_classes: 3 code_type: CENTER_SIZE",
        loc=(2, 128),
        conf=(2, 96),
        prior=(1, 2, 128),
        truth=(1, 1, 2, 8),
    )
}


def layer(options: str, fields: str = "") -> str:
    return (
        'layer { name: "l" type: "MultiBoxLoss" bottom: "loc" bottom: "conf" bottom: "prior"'
        f' bottom: "truth" top: "loss" multibox_loss_param {{ {options} }} {fields} }}'
    )


def sample(rng, locations=1):
    corner = rng.random((PRIORS, 2)) * 0.8
    box = np.concatenate([corner, corner + 0.1 + rng.random((PRIORS, 2)) / 3], 1)
    truth = np.array(
        [
            [0, 1, 0, *(box[2] + 0.02), 0],
            [0, 3, 1, *(box[7] - 0.03), 1],
            [-1] * 8,
            [2, 2, 0, *(box[11] + 0.01), 0],
        ],
        float,
    )
    return {
        "loc": rng.normal(size=(3, PRIORS * locations * 4)) / 2,
        "conf": rng.normal(size=(3, PRIORS * CLASSES)),
        "prior": np.stack([box.ravel(), np.tile([0.1, 0.1, 0.2, 0.2], PRIORS)])[None],
        "truth": truth[None, None],
    }


def encode(box, prior, code):
    (x1, y1, x2, y2), (a1, b1, a2, b2) = box, prior
    w, h = a2 - a1, b2 - b1
    if code == "CORNER":
        return np.array([x1 - a1, y1 - b1, x2 - a2, y2 - b2])
    if code == "CORNER_SIZE":
        return np.array([(x1 - a1) / w, (y1 - b1) / h, (x2 - a2) / w, (y2 - b2) / h])
    moved = [(x1 + x2 - a1 - a2) / 2 / w, (y1 + y2 - b1 - b2) / 2 / h]
    return np.array([*moved, np.log((x2 - x1) / w), np.log((y2 - y1) / h)])


def decode(offset, prior, code):
    assert code == "CORNER"
    return prior + offset


def loss(
    loc, conf, prior, truth, *, code="CORNER", squared=False, logistic=False, share=True,
    ratio=3.0, neg_overlap=0.5, mining="MAX_NEGATIVE", sample_size=64, each=True, difficult=True,
    in_target=False, inside=False, agnostic=False, weight=1.0, normalization="VALID",
    use_prior=True, nms=0.0,
):  # fmt: skip
    """Image by image and prior by prior in float64."""
    boxes, variances = prior[0].reshape(2, -1, 4)
    offset_loss = score_loss = 0.0
    matches = 0
    truth = truth.reshape(-1, 8)
    classes = conf.shape[1] // PRIORS
    for image in range(len(loc)):
        offsets = loc[image].reshape(PRIORS, -1, 4)
        scores = conf[image].reshape(PRIORS, classes)
        own = [row for row in truth if row[0] == image and (difficult or not row[7])]

        def of_scores(p, label, blank=False, scores=scores):
            if not logistic:
                return np.log(np.exp(scores[p]).sum()) - scores[p, label]
            true = np.eye(classes)[label] * (not blank)
            return (np.log1p(np.exp(scores[p])) - true * scores[p]).sum()

        def of_offsets(p, row, offsets=offsets):
            target = encode(row[3:7], boxes[p], code) / variances[p]
            moved = offsets[p, 0 if share else int(row[1])]
            if in_target:
                moved = moved / variances[p]
            if inside:
                seen = (
                    boxes[p] if use_prior else decode(offsets[p, 0] * variances[p], boxes[p], code)
                )
                moved = np.where((seen < 0) | (seen > 1), target, moved)
            d = np.abs(moved - target)
            return (d**2 / 2 if squared else np.where(d < 1, d**2 / 2, d - 0.5)).sum()

        index, best = [-1] * PRIORS, [0.0] * PRIORS
        if own:
            found = boxes if use_prior else [
                decode(offsets[p, 0] * variances[p], boxes[p], code) for p in range(PRIORS)
            ]  # fmt: skip
            # Tested pair by pair in test_box_matching.py.
            pair = match_boxes(
                torch.tensor(np.array(found)), torch.tensor(np.array(own)[:, 3:7]), 0.5,
                each=each, ignore_outside=False,
            )  # fmt: skip
            index, best = pair[0].tolist(), pair[1].tolist()
        labels = [0 if i < 0 else 1 if agnostic else int(own[i][1]) for i in index]
        negatives = [p for p in range(PRIORS) if index[p] == -1] if mining == "NONE" else []
        if own and mining != "NONE":
            hard = mining == "HARD_EXAMPLE"
            worst = {p: of_scores(p, labels[p]) for p in range(PRIORS)}
            if hard:
                worst = {
                    p: v + (of_offsets(p, own[index[p]]) if index[p] >= 0 else 0)
                    for p, v in worst.items()
                }
            able = [p for p in worst if hard or (index[p] == -1 and best[p] < neg_overlap)]
            able.sort(key=lambda p: -worst[p])
            most = sample_size if hard else int(sum(i >= 0 for i in index) * ratio)
            if nms:
                able = [able[k] for k in suppress([boxes[p] for p in able], nms)]
            chosen = set(able[:most])
            negatives = sorted(p for p in chosen if index[p] == -1)
            if hard:
                index = [i if p in chosen else -1 for p, i in enumerate(index)]
        for p in range(PRIORS):
            if index[p] >= 0:
                matches += 1
                offset_loss += of_offsets(p, own[index[p]])
                score_loss += of_scores(p, labels[p])
        score_loss += sum(of_scores(p, 0, blank=mining == "NONE") for p in negatives)
    divisors = {"VALID": matches, "FULL": 3 * PRIORS, "BATCH_SIZE": 3, "NONE": 1}
    return (score_loss + weight * offset_loss) / max(divisors[normalization], 1)


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


def run(layer_net, text, bottoms):
    shapes = {name: value.shape for name, value in bottoms.items()}
    return layer_net(text, **shapes).run(bottoms)


@pytest.mark.parametrize("name", CASES)
def test_prior_by_prior(name, layer_net, rng):
    options, given = CASES[name]
    bottoms = sample(rng, CLASSES if given.get("share") is False else 1)
    result = run(layer_net, layer(f"num_classes: {CLASSES} {options}"), bottoms)
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
def test_normalization(mode, layer_net, rng):
    bottoms = sample(rng)
    text = layer(f"num_classes: {CLASSES}", f"loss_param {{ normalization: {mode} }}")
    found = run(layer_net, text, bottoms).tops["loss"]
    assert found == pytest.approx(loss(**bottoms, normalization=mode), rel=1e-6)


def test_agnostic(layer_net, rng):
    bottoms = sample(rng)
    bottoms["conf"] = bottoms["conf"][:, : 2 * PRIORS]
    text = layer("num_classes: 2 map_object_to_agnostic: true")
    found = run(layer_net, text, bottoms).tops["loss"]
    assert found == pytest.approx(loss(**bottoms, agnostic=True), rel=1e-6)


def test_no_true_boxes(layer_net, rng):
    bottoms = sample(rng) | {"truth": np.full((1, 1, 2, 8), -1.0)}
    result = run(layer_net, layer(f"num_classes: {CLASSES}"), bottoms)
    assert result.tops["loss"] == 0
    everything = run(layer_net, layer(f"num_classes: {CLASSES} mining_type: NONE"), bottoms)
    assert everything.tops["loss"] == pytest.approx(loss(**bottoms, mining="NONE"), rel=1e-6)


def test_overlap_of_the_sample(rng):
    """The sample's boxes do match, or the tests above would say little."""
    bottoms = sample(rng)
    boxes, truth = bottoms["prior"][0, 0].reshape(-1, 4), bottoms["truth"].reshape(-1, 8)
    assert overlap(boxes[2], truth[0, 3:7]) > 0.5


SHAPES = {"loc": (3, 80), "conf": (3, 80), "prior": (1, 2, 80), "truth": (1, 1, 4, 8)}


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("", {}, "num_classes is not given"),
        ("num_classes: 3", {}, "scores of shape .* expected 60 values"),
        ("num_classes: 4 share_location: false", {}, "expected mining_type: NONE"),
        ("num_classes: 4 map_object_to_agnostic: true", {}, "map_object_to_agnostic; expected 2"),
        ("num_classes: 4", {"prior": (1, 1, 80)}, "priors of shape"),
        ("num_classes: 4", {"truth": (1, 1, 4, 7)}, "true boxes of shape"),
    ],
)
def test_what_does_not_fit(options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), **(SHAPES | shapes))


@pytest.mark.parametrize("label", [0, 4])
def test_labels_that_are_none(label, layer_net, rng):
    bottoms = sample(rng)
    bottoms["truth"][0, 0, 0, 1] = label
    with pytest.raises(SphereFaceError, match=f"a true box of label {label}"):
        run(layer_net, layer(f"num_classes: {CLASSES}"), bottoms)
