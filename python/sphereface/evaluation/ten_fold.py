"""Verification accuracy over folds, as LFW's protocol is computed by SphereFace's evaluation.m.

For each fold, the mean feature of both sides of the other folds is subtracted, features are scaled
to unit norm and a pair's score is their dot product; the threshold that is best on the other folds
judges the fold. What differs: one sort replaces the 20001 passes over the scores, with the same
result, and the number of folds is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError

__all__ = ["FoldResult", "accuracy", "best_threshold", "ten_fold"]

# evaluation.m's thrNum = 10000: thresholds at steps of 1e-4 from -1 to 1.
_THRESHOLDS = np.arange(-10000, 10001) / 10000


@dataclass(frozen=True)
class FoldResult:
    """Accuracy and threshold of every fold, in the order of the folds' numbers.

    Attributes
    ----------
    fold : ndarray of shape (F,)
        The folds' numbers.
    accuracy : ndarray of shape (F,), float64
        Share of the fold's pairs that its threshold judges rightly, 0 to 1.
    threshold : ndarray of shape (F,), float64
        Cosine above which a pair counts as the same.
    """

    fold: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    threshold: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean accuracy over the folds."""
        return float(self.accuracy.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the accuracy over the folds (of a sample: divided by F - 1)."""
        return float(self.accuracy.std(ddof=1))


def ten_fold(left: ArrayLike, right: ArrayLike, same: ArrayLike, fold: ArrayLike) -> FoldResult:
    """Judge each fold's pairs by the mean and the threshold of the others.

    Parameters
    ----------
    left, right : array_like of shape (P, K)
        Features of the two sides of P pairs; computed in float64.
    same : array_like of shape (P,), bool
        Whether a pair shows the same person.
    fold : array_like of shape (P,), int
        The pair's fold, at least two different ones. LFW has ten of 600 pairs.

    Returns
    -------
    FoldResult

    Raises
    ------
    SphereFaceError
        Shapes do not fit, a feature is not finite, or there is only one fold.

    Notes
    -----
    A pair whose feature is exactly the mean has no direction: its score is NaN and it counts as
    wrong, as in the original.

    Examples
    --------
    >>> left = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    >>> right = np.array([[1, 0.1], [1, 0], [1, -0.1], [1, 0]])
    >>> ten_fold(left, right, same=[True, False, True, False], fold=[1, 1, 2, 2]).mean
    1.0
    """
    left, right = _features("left", left), _features("right", right)
    pairs = len(left)
    if left.shape != right.shape:
        raise SphereFaceError(
            f"left has shape {left.shape} and right {right.shape}",
            where="ten_fold",
            expected="two arrays of one shape (P, K)",
        )
    same, fold = _per_pair("same", same, pairs), _per_pair("fold", fold, pairs)
    if same.dtype != bool:
        raise SphereFaceError(
            f"same has dtype {same.dtype}",
            where="ten_fold",
            expected="bool",
            fix="for flags of 1 and -1 pass flag == 1",
        )
    numbers, member = np.unique(fold, return_inverse=True)
    if len(numbers) < 2:
        raise SphereFaceError(f"{len(numbers)} fold", where="ten_fold", expected="at least two")
    scores = _scores(left, right, member)
    judged = [_judge(scores[f], same, member == f) for f in range(len(numbers))]
    accuracies, thresholds = np.array(judged).T
    return FoldResult(numbers, accuracies, thresholds)


def best_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Return the mean of the thresholds from -1 to 1 (steps of 1e-4) with the most right pairs."""
    positive, negative = (np.sort(part[~np.isnan(part)]) for part in (scores[same], scores[~same]))
    above = len(positive) - np.searchsorted(positive, _THRESHOLDS, side="right")
    below = np.searchsorted(negative, _THRESHOLDS, side="left")
    right = above + below
    return float(_THRESHOLDS[right == right.max()].mean())


def accuracy(scores: NDArray[np.float64], same: NDArray[np.bool_], threshold: float) -> float:
    """Return the share of pairs on the right side of `threshold`; on it is wrong."""
    right = np.where(same, scores > threshold, scores < threshold)
    return float(right.mean())


def _scores(
    left: NDArray[np.float64], right: NDArray[np.float64], member: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosine of every pair after subtracting the mean of the other folds: (F, P)."""
    centre = (left.mean(axis=0) + right.mean(axis=0)) / 2
    left, right = left - centre, right - centre
    both = left + right
    sums = np.stack([both[member == f].sum(axis=0) for f in range(member.max() + 1)])  # (F, K)
    others = len(member) - np.bincount(member)
    means = (sums.sum(axis=0) - sums) / (2 * others)[:, None]

    # (l - mean).(r - mean) is multiplied out, so that all folds take one matrix product a side. The
    # means are small beside the features, which are centred already: nothing cancels.
    squares = np.einsum("fk,fk->f", means, means)[:, None]
    to_left, to_right = means @ left.T, means @ right.T  # (F, P)
    product = np.einsum("pk,pk->p", left, right) - to_left - to_right + squares
    left_norm = np.einsum("pk,pk->p", left, left) - 2 * to_left + squares
    right_norm = np.einsum("pk,pk->p", right, right) - 2 * to_right + squares
    with np.errstate(invalid="ignore", divide="ignore"):
        return product / np.sqrt(left_norm * right_norm)


def _judge(
    scores: NDArray[np.float64], same: NDArray[np.bool_], held_out: NDArray[np.bool_]
) -> tuple[float, float]:
    threshold = best_threshold(scores[~held_out], same[~held_out])
    return accuracy(scores[held_out], same[held_out], threshold), threshold


def _features(name: str, value: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise SphereFaceError(
            f"{name} has shape {array.shape}", where="ten_fold", expected="(pairs, features)"
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise SphereFaceError(
            f"{name} has {bad.size} rows that are not finite, the first at {bad[0]}",
            where="ten_fold",
            fix="leave those pairs out, or give them a feature",
        )
    return array


def _per_pair(name: str, value: ArrayLike, pairs: int) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape != (pairs,):
        raise SphereFaceError(
            f"{name} has shape {array.shape}",
            where="ten_fold",
            expected=f"({pairs},): one value a pair",
        )
    return array
