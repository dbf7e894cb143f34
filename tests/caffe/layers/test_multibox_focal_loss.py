from __future__ import annotations

import pytest

from reference.layer_examples import example
from reference.multibox import loss, sample
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "plain": example(
        "MultiBoxFocalLoss",
        "num_classes: 3 code_type: CENTER_SIZE mining_type: NONE",
        loc=(2, 128),
        conf=(2, 96),
        prior=(1, 2, 128),
        truth=(1, 1, 2, 8),
    )
}


TYPE = "MultiBoxFocalLoss"


@pytest.mark.parametrize(
    ("fields", "options", "given"),
    [
        ("", "mining_type: NONE", {"mining": "NONE", "focal": (0.25, 2)}),
        ("focal_loss_param { alpha: 0.5 gamma: 1.5 }", "", {"focal": (0.5, 1.5)}),
        ("", "conf_loss_type: LOGISTIC", {"logistic": True}),
    ],
)
def test_prior_by_prior(fields, options, given, run_multibox, rng):
    bottoms = sample(rng)
    result = run_multibox(bottoms, options, fields=fields, type=TYPE)
    assert result.tops["loss"] == pytest.approx(loss(**bottoms, **given), rel=1e-6)
    for blob, gradient in result.bottom_diffs.items():
        way = rng.normal(size=gradient.shape)
        sides = [
            loss(**{**bottoms, blob: bottoms[blob] + step * way}, **given) for step in (1e-6, -1e-6)
        ]
        assert (gradient * way).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4)


def test_alpha_of_zero(run_multibox, rng):
    bottoms = sample(rng)
    with pytest.raises(SphereFaceError, match="expected alpha above 0"):
        run_multibox(bottoms, fields="focal_loss_param { alpha: 0 }", type=TYPE)
