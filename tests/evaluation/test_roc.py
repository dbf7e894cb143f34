from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from sphereface.errors import SphereFaceError
from sphereface.evaluation import equal_error_rate, roc


def tied_scores(seed: int, m: int = 40, n: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(3, 12, m) / 10, rng.integers(0, 9, n) / 10


@pytest.mark.parametrize("seed", range(3))
def test_every_vertex_by_counting_and_by_scikit_learn(seed: int) -> None:
    genuine, impostor = tied_scores(seed)
    curve = roc(genuine, impostor)
    assert curve.threshold[0] == np.inf
    assert (np.diff(curve.threshold) < 0).all()
    for threshold, far, tar in zip(curve.threshold, curve.far, curve.tar, strict=True):
        assert far == pytest.approx(sum(s >= threshold for s in impostor) / 70, abs=1e-15)
        assert tar == pytest.approx(sum(s >= threshold for s in genuine) / 40, abs=1e-15)
    label = np.repeat([1, 0], [40, 70])
    far, tar, threshold = roc_curve(
        label, np.concatenate([genuine, impostor]), drop_intermediate=False
    )
    np.testing.assert_array_equal(curve.threshold, threshold)
    np.testing.assert_allclose(curve.far, far, atol=1e-15)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-15)


def test_equal_error_rate_on_a_vertex() -> None:
    rate = equal_error_rate(roc([0.9, 0.8, 0.3, 0.7], [0.75, 0.2, 0.1, 0.05]))
    # At 0.7: one of four genuine below it, one of four impostors at or above it.
    assert (rate.value, rate.low, rate.high, rate.threshold) == (0.25, 0.25, 0.25, 0.7)


def test_equal_error_rate_between_vertices() -> None:
    # At 0.6 FAR 0 and FRR 2/3; at 0.5 (a tie of both kinds) FAR 1/2 and FRR 0.
    rate = equal_error_rate(roc([0.6, 0.5, 0.5], [0.5, 0.1]))
    share = (2 / 3) / (2 / 3 + 1 / 2)
    assert rate.value == pytest.approx(share / 2, abs=1e-15)
    # FVC2000: the vertex with the smaller sum of both errors, 1/2 against 2/3.
    assert (rate.low, rate.high, rate.threshold) == (0, 0.5, 0.5)


def test_equal_error_rate_of_one_distribution_is_a_half() -> None:
    scores = np.arange(1000) % 250
    assert equal_error_rate(roc(scores, scores)).value == pytest.approx(0.5, abs=1e-12)
    assert equal_error_rate(roc([2, 3], [0, 1])).value == 0
    assert equal_error_rate(roc([0, 1], [2, 3])).value == 1


@pytest.mark.parametrize(
    ("genuine", "message"),
    [
        ([], r"genuine scores: shape \(0,\); expected at least one score"),
        ([[0.1]], r"genuine scores: shape \(1, 1\)"),
        ([0.1, np.nan], "genuine scores: 1 of 2 are NaN; leave out pairs without a score"),
    ],
)
def test_bad_scores(genuine: list, message: str) -> None:
    with pytest.raises(SphereFaceError, match=message):
        roc(genuine, [0.5])
