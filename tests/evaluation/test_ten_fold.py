from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import FoldResult, accuracy, best_threshold, ten_fold

GOLDEN = Path(__file__).parents[1] / "golden" / "lfw_protocol"


def original(
    left: np.ndarray, right: np.ndarray, flag: np.ndarray, fold: np.ndarray
) -> tuple[list[float], list[float]]:
    """evaluation.m as it stands: a loop over folds and over all thresholds."""
    thresholds = np.arange(-10000, 10001) / 10000

    def judged(scores: np.ndarray, flags: np.ndarray, threshold: float) -> float:
        hits = np.sum(scores[flags == 1] > threshold) + np.sum(scores[flags != 1] < threshold)
        return float(hits / len(scores))

    found: tuple[list[float], list[float]] = ([], [])
    for number in np.unique(fold):
        kept, held = fold != number, fold == number
        mu = np.concatenate([left[kept], right[kept]]).mean(axis=0)
        a, b = left - mu, right - mu
        a = a / np.sqrt((a**2).sum(axis=1, keepdims=True))
        b = b / np.sqrt((b**2).sum(axis=1, keepdims=True))
        scores = (a * b).sum(axis=1)
        curve = np.array([judged(scores[kept], flag[kept], t) for t in thresholds])
        threshold = float(thresholds[curve == curve.max()].mean())
        found[0].append(judged(scores[held], flag[held], threshold))
        found[1].append(threshold)
    return found


def pairs(seed: int, count: int, width: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    flag = np.where(np.arange(count) % 2 == 0, 1, -1)
    left = rng.normal(size=(count, width)) + 3
    noise = np.where(flag == 1, 1.0, 3.0)[:, None]
    return left, left + noise * rng.normal(size=left.shape), flag, np.arange(count) % 5


def test_accuracies_and_thresholds_of_the_original() -> None:
    data = np.load(GOLDEN / "features.npz")
    expected = json.loads((GOLDEN / "expected.json").read_text())
    result = ten_fold(data["left"], data["right"], data["flag"] == 1, data["fold"])
    assert result.fold.tolist() == list(range(1, 11))
    assert result.accuracy.tolist() == expected["accuracy"]
    # Octave adds the maximisers in another order: the last bit may differ.
    np.testing.assert_allclose(result.threshold, expected["threshold"], rtol=0, atol=2e-16)
    assert result.mean == pytest.approx(expected["mean_accuracy"], abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop_over_all_thresholds(seed: int) -> None:
    left, right, flag, fold = pairs(seed, count=100, width=6)
    result = ten_fold(left, right, flag == 1, fold)
    accuracies, thresholds = original(left, right, flag, fold)
    assert 0.5 < result.mean < 1
    assert result.accuracy.tolist() == accuracies
    np.testing.assert_allclose(result.threshold, thresholds, rtol=0, atol=1e-12)


def test_a_large_common_offset_changes_nothing() -> None:
    left, right, flag, fold = pairs(0, count=100, width=6)
    plain = ten_fold(left, right, flag == 1, fold)
    moved = ten_fold(left + 1e6, right + 1e6, flag == 1, fold)
    assert moved.accuracy.tolist() == plain.accuracy.tolist()
    np.testing.assert_allclose(moved.threshold, plain.threshold, rtol=0, atol=1e-12)


def test_folds_may_have_any_numbers_and_sizes() -> None:
    left, right, flag, _ = pairs(1, count=90, width=4)
    fold = np.repeat([7, -2, 30], [50, 10, 30])
    result = ten_fold(left, right, flag == 1, fold)
    assert result.fold.tolist() == [-2, 7, 30]
    assert result.accuracy.tolist() == original(left, right, flag, fold)[0]


def test_threshold_is_the_mean_of_all_best_ones() -> None:
    scores, same = np.array([0.25, -0.25]), np.array([True, False])
    # Right from -0.2499 to 0.2499: the ends themselves tie with a score and are wrong.
    assert best_threshold(scores, same) == pytest.approx(0, abs=1e-15)
    two_islands = np.array([0.5, 0.1, 0.1, -0.3]), np.array([True, False, True, False])
    # Three of four are right between -0.3 and 0.1, and between 0.1 and 0.5; both have 3999 steps.
    assert best_threshold(*two_islands) == pytest.approx(0.1, abs=1e-12)


def test_a_score_on_the_threshold_is_wrong() -> None:
    scores = np.array([0.5, 0.5, 0.6, 0.4])
    same = np.array([True, False, True, False])
    assert accuracy(scores, same, 0.5) == 0.5


def test_a_feature_equal_to_the_mean_counts_as_wrong() -> None:
    left = np.array([[1.0, 1], [-1, -1], [1, 1], [-1, -1], [0, 0]])
    right = np.array([[1.0, 1], [1, 1], [1, 1], [1, 1], [-4, -4]])
    left, right = np.tile(left, (2, 1)), np.tile(right, (2, 1))
    same = np.tile([True, False, True, False, True], 2)
    result = ten_fold(left, right, same, np.repeat([1, 2], 5))
    # The mean is 0, so the fifth pair has a side without direction.
    assert result.accuracy.tolist() == [0.8, 0.8]


def test_missing_pairs_keep_their_fold_and_count_as_wrong() -> None:
    left, right, flag, fold = pairs(2, count=100, width=6)
    missing = np.zeros(100, bool)
    missing[[3, 4, 50]] = True
    left[3], right[50] = np.nan, 1e30
    result = ten_fold(left, right, flag == 1, fold, missing)
    kept = ~missing
    without = ten_fold(left[kept], right[kept], flag[kept] == 1, fold[kept])
    np.testing.assert_allclose(result.threshold, without.threshold, rtol=0, atol=1e-12)
    expected = [without.accuracy[f] * np.sum(fold[kept] == f) / np.sum(fold == f) for f in range(5)]
    np.testing.assert_allclose(result.accuracy, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(np.isnan(result.scores), missing)


def test_scores_are_those_that_judged_the_pairs() -> None:
    left, right, flag, fold = pairs(3, count=60, width=5)
    result = ten_fold(left, right, flag == 1, fold)
    for index in (0, 7, 59):
        others = fold != fold[index]
        mu = np.concatenate([left[others], right[others]]).mean(axis=0)
        a, b = left[index] - mu, right[index] - mu
        cosine = a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)
        assert result.scores[index] == pytest.approx(cosine, abs=1e-12)


def test_mean_and_spread() -> None:
    result = FoldResult(
        np.arange(3), np.array([0.9, 0.8, 1.0]), np.zeros(3), np.zeros(9), np.zeros(9, bool)
    )
    assert result.mean == pytest.approx(0.9)
    assert result.std == pytest.approx(0.1)
    assert result.standard_error == pytest.approx(0.1 / 3**0.5)


ONES = np.ones((4, 2))
SAME, FOLD = np.array([True, False] * 2), np.array([1, 1, 2, 2])
BROKEN = np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONES, np.ones((4, 3)), SAME, FOLD), r"left has shape \(4, 2\) and right \(4, 3\)"),
        ((np.ones(4), np.ones(4), SAME, FOLD), r"left has shape \(4,\); expected \(pairs, feat"),
        ((ONES, BROKEN, SAME, FOLD), "right has 1 rows that are not finite, the first at 2"),
        ((ONES, ONES, SAME[:3], FOLD), r"same has shape \(3,\); expected \(4,\): one value a pair"),
        ((ONES, ONES, np.array([1, -1, 1, -1]), FOLD), "same has dtype int64; expected bool"),
        ((ONES, ONES, SAME, np.ones(4)), "1 fold; expected at least two"),
        ((ONES, ONES, SAME, FOLD, FOLD == 1), "2 of 4 pairs have no features"),
        ((ONES, ONES, SAME, FOLD, FOLD), "missing has dtype int64; expected bool"),
    ],
)
def test_bad_arguments(arguments: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(SphereFaceError, match="^verification pairs: " + message):
        ten_fold(*arguments)
