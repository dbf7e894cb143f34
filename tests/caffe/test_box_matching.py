from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.detection import overlap
from sphereface.caffe.box_matching import match_boxes


def match(boxes, truths, threshold, each, ignore_outside):
    """Pair by pair, as the paper tells it."""
    index, best = [-1] * len(boxes), [0.0] * len(boxes)
    pairs = {}
    for p, box in enumerate(boxes):
        if ignore_outside and (min(box) < 0 or max(box) > 1):
            index[p] = -2
            continue
        for g, truth in enumerate(truths):
            if (share := overlap(box, truth)) > 1e-6:
                pairs[p, g] = share
                best[p] = max(best[p], share)
    free = set(range(len(truths)))
    while left := [
        (share, p, g) for (p, g), share in pairs.items() if g in free and index[p] == -1
    ]:
        share, p, g = max(left, key=lambda pair: pair[0])
        index[p], best[p] = g, share
        free.remove(g)
    for p in range(len(boxes)):
        own = [(share, g) for (q, g), share in pairs.items() if q == p]
        if each and index[p] == -1 and own and max(own)[0] >= threshold:
            index[p] = max(own)[1]
    return index, best


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("ignore_outside", [True, False])
def test_pair_by_pair(each, ignore_outside, rng):
    corner = rng.random((80, 2)) * 1.1 - 0.1
    boxes = np.concatenate([corner, corner + 0.1 + rng.random((80, 2)) / 4], 1)
    truths = boxes[:6] + rng.normal(size=(6, 4)) / 50
    expected = match(boxes, truths, 0.3, each, ignore_outside)
    index, best = match_boxes(
        torch.from_numpy(boxes), torch.from_numpy(truths), 0.3, each=each,
        ignore_outside=ignore_outside,
    )  # fmt: skip
    assert index.tolist() == expected[0]
    np.testing.assert_allclose(best, expected[1], rtol=1e-12)
    assert (index >= 0).sum() > (6 if each else 3)
    assert ((index == -2).sum() > 0) == ignore_outside


def test_true_boxes_that_overlap_nothing_stay_alone():
    box = torch.tensor([[0.0, 0, 0.1, 0.1]])
    truth = torch.tensor([[0.5, 0.5, 0.6, 0.6]])
    index, best = match_boxes(box, truth, 0.0, each=True, ignore_outside=False)
    assert (index.tolist(), best.tolist()) == ([-1], [0.0])
