"""MultiBoxLoss of RefineDet's second step."""

from __future__ import annotations

import numpy as np
import pytest

from reference.multibox import PRIORS, loss, sample
from sphereface.errors import SphereFaceError

SCORE = "objectness_score: 0.2"


def refined_sample(rng):
    object_score = rng.random((3, PRIORS)) / 2
    return sample(rng) | {
        "object": np.stack([1 - object_score, object_score], 2).reshape(3, -1),
        "moved": rng.normal(size=(3, PRIORS * 4)) / 4,
    }


def refined_loss(loc, conf, prior, truth, object, moved=None, **given):
    """Image by image: the loss of the boxes that the first step found there."""
    total, matches = 0.0, 0.0
    box, variance = prior[0]
    for image in range(len(loc)):
        found = box if moved is None else box + moved[image] * variance
        own = truth.reshape(-1, 8)
        own = own[own[:, 0] == image]
        if not len(own):
            continue
        bottoms = {
            "loc": loc,
            "conf": conf,
            "prior": np.stack([found, variance])[None],
            "truth": own[None, None],
            "objects": object,
        }
        part = loss(**bottoms, **given, normalization="NONE")
        matches += part / loss(**bottoms, **given)
        total += part
    return total / matches


@pytest.mark.parametrize("first", [("object",), ("object", "moved")])
@pytest.mark.parametrize("ratio", [3.0, 30.0])
def test_second_step(first, ratio, run_multibox, rng):
    bottoms = {
        k: v for k, v in refined_sample(rng).items() if k not in {"object", "moved"} - {*first}
    }
    result = run_multibox(bottoms, f"{SCORE} neg_pos_ratio: {ratio}")
    expected = refined_loss(**bottoms, ratio=ratio)
    assert result.tops["loss"] == pytest.approx(expected, rel=1e-6)
    plain = {name: bottoms[name] for name in ("loc", "conf", "prior", "truth")}
    assert expected != pytest.approx(loss(**plain, ratio=ratio), rel=1e-3)
    assert set(result.bottom_diffs) == {"loc", "conf"}
    for blob, gradient in result.bottom_diffs.items():
        way = rng.normal(size=gradient.shape)
        sides = [
            refined_loss(**{**bottoms, blob: bottoms[blob] + step * way}, ratio=ratio)
            for step in (1e-6, -1e-6)
        ]
        assert (gradient * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4)


def test_first_step_tells_objects(run_multibox, rng):
    """Its two classes are background and object, whatever the labels are."""
    bottoms = sample(rng)
    bottoms["conf"] = bottoms["conf"][:, : 2 * PRIORS]
    found = run_multibox(bottoms, SCORE, classes=2).tops["loss"]
    bottoms["truth"][..., 1] = np.minimum(bottoms["truth"][..., 1], 1)
    assert found == pytest.approx(loss(**bottoms), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        "mining_type: HARD_EXAMPLE",
        "use_prior_for_matching: false",
        "nms_param { nms_threshold: 0.3 }",
    ],
)
def test_options_that_refinedet_has_not(options, run_multibox, rng):
    bottoms = refined_sample(rng)
    with pytest.raises(SphereFaceError, match="expected RefineDet's options"):
        run_multibox(bottoms, options)


@pytest.mark.parametrize(("name", "size"), [("object", 2 * PRIORS - 1), ("moved", PRIORS)])
def test_sizes_of_the_first_step(name, size, run_multibox, rng):
    bottoms = refined_sample(rng)
    bottoms[name] = bottoms[name][:, :size]
    with pytest.raises(SphereFaceError, match=r"(probabilities|offsets) of shape"):
        run_multibox(bottoms, SCORE)
