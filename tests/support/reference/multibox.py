"""MultiBoxLoss in float64, image by image and prior by prior, and boxes to try it on."""

from __future__ import annotations

import numpy as np
import torch

from reference.detection import suppress
from sphereface.caffe.box_matching import match_boxes

__all__ = ["CLASSES", "PRIORS", "layer", "loss", "sample"]

PRIORS, CLASSES = 20, 4


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


def layer(bottoms, options, fields="", type="MultiBoxLoss", classes=CLASSES):
    """Return a loss over those bottoms, in their order, as text."""
    names = " ".join(f'bottom: "{name}"' for name in bottoms)
    return (
        f'layer {{ name: "l" type: "{type}" {names} top: "loss"'
        f" multibox_loss_param {{ num_classes: {classes} {options} }} {fields} }}"
    )


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
    use_prior=True, nms=0.0, objects=None, focal=None,
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
            if objects is not None:
                able = [p for p in able if objects[image, 2 * p + 1] >= 0.2]
            able.sort(key=lambda p: -worst[p])
            most = sample_size if hard else int(sum(i >= 0 for i in index) * ratio)
            if nms:
                able = [able[k] for k in suppress([boxes[p] for p in able], nms)]
            chosen = set(able[:most])
            negatives = sorted(p for p in chosen if index[p] == -1)
            if hard:
                index = [i if p in chosen else -1 for p, i in enumerate(index)]

        def counted(*given, of_scores=of_scores, **more):
            loss = of_scores(*given, **more)
            return loss if focal is None else focal[0] * (1 - np.exp(-loss)) ** focal[1] * loss

        for p in range(PRIORS):
            if index[p] >= 0:
                matches += 1
                offset_loss += of_offsets(p, own[index[p]])
                score_loss += counted(p, labels[p])
        score_loss += sum(counted(p, 0, blank=mining == "NONE") for p in negatives)
    divisors = {"VALID": matches, "FULL": 3 * PRIORS, "BATCH_SIZE": 3, "NONE": 1}
    return (score_loss + weight * offset_loss) / max(divisors[normalization], 1)
