"""Verification accuracy over folds, as LFW's protocol is computed by SphereFace's evaluation.m.

For each fold, the mean feature of both sides of the other folds is subtracted, features are scaled
to unit norm and a pair's score is their dot product; the threshold that is best on the other folds
judges the fold. What differs: one sort replaces the 20001 passes over the scores, with the same
result, and the number of folds is free.

`sphereface.evaluation.protocols` has the protocols of other programs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.evaluation.folded_pairs import FoldedPairs, folded_pairs

__all__ = [
    "FoldResult",
    "accuracy",
    "best_threshold",
    "centred_cosines",
    "judge_folds",
    "rightly",
    "ten_fold",
]

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
        Score above which a pair counts as the same.
    scores : ndarray of shape (P,), float64
        Each pair's score, as its own fold was judged; NaN for a missing pair, and where a feature
        has no direction.
    right : ndarray of shape (P,), bool
        Which pairs were judged rightly.
    """

    fold: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    threshold: NDArray[np.float64]
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]

    @property
    def mean(self) -> float:
        """Mean accuracy over the folds."""
        return float(self.accuracy.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the accuracy over the folds (of a sample: divided by F - 1)."""
        return float(self.accuracy.std(ddof=1))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, LFW's S_E: `std` over the root of F."""
        return self.std / len(self.accuracy) ** 0.5


def ten_fold(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    missing: ArrayLike | None = None,
) -> FoldResult:
    """Judge each fold's pairs by the mean and the threshold of the others.

    Parameters
    ----------
    left, right : array_like of shape (P, K)
        Features of the two sides of P pairs; computed in float64.
    same : array_like of shape (P,), bool
        Whether a pair shows the same person.
    fold : array_like of shape (P,), int
        The pair's fold, at least two different ones. LFW has ten of 600 pairs.
    missing : array_like of shape (P,), bool, optional
        Pairs that have no features: they keep their fold and count as wrong, and their rows are
        not looked at.

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
    pairs = folded_pairs(left, right, same, fold, missing)
    return judge_folds(pairs, centred_cosines(pairs))


def judge_folds(pairs: FoldedPairs, scores: NDArray[np.float64]) -> FoldResult:
    """Judge each fold by the best threshold of the others.

    Parameters
    ----------
    pairs : FoldedPairs
    scores : ndarray of shape (F, P), float64
        Row f has the scores that hold while fold f is held out; NaN counts as wrong.
    """
    thresholds = np.array(
        [
            best_threshold(row[kept], pairs.same[kept])
            for row, kept in zip(scores, pairs.member != pairs.every_fold[:, None], strict=True)
        ]
    )
    own = scores[pairs.member, np.arange(len(pairs.member))]
    right = rightly(own, pairs.same, thresholds[pairs.member])
    return FoldResult(pairs.numbers, pairs.fold_means(right), thresholds, own, right)


def best_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Return the mean of the thresholds from -1 to 1 (steps of 1e-4) with the most right pairs."""
    positive, negative = (np.sort(part[~np.isnan(part)]) for part in (scores[same], scores[~same]))
    above = len(positive) - np.searchsorted(positive, _THRESHOLDS, side="right")
    below = np.searchsorted(negative, _THRESHOLDS, side="left")
    right = above + below
    return float(_THRESHOLDS[right == right.max()].mean())


def accuracy(scores: NDArray[np.float64], same: NDArray[np.bool_], threshold: float) -> float:
    """Return the share of pairs on the right side of `threshold`; on it is wrong."""
    return float(rightly(scores, same, threshold).mean())


def rightly(
    scores: NDArray[np.float64], same: NDArray[np.bool_], threshold: float | NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which pairs are on the right side of `threshold`; on it, and NaN, is wrong."""
    return np.where(same, scores > threshold, scores < threshold)


def centred_cosines(pairs: FoldedPairs) -> NDArray[np.float64]:
    """Return the cosine of every pair less the mean of the other folds, for each fold: (F, P)."""
    left, right = pairs.left[pairs.present], pairs.right[pairs.present]
    member, folds = pairs.member[pairs.present], len(pairs.numbers)
    centre = (left.mean(axis=0) + right.mean(axis=0)) / 2
    left, right = left - centre, right - centre
    both = left + right
    sums = np.stack([both[member == f].sum(axis=0) for f in range(folds)])  # (F, K)
    others = len(member) - np.bincount(member, minlength=folds)
    means = (sums.sum(axis=0) - sums) / (2 * others)[:, None]

    # (l - mean).(r - mean) is multiplied out, so that all folds take one matrix product a side. The
    # means are small beside the features, which are centred already: nothing cancels.
    squares = np.einsum("fk,fk->f", means, means)[:, None]
    to_left, to_right = means @ left.T, means @ right.T  # (F, P)
    product = np.einsum("pk,pk->p", left, right) - to_left - to_right + squares
    left_norm = np.einsum("pk,pk->p", left, left) - 2 * to_left + squares
    right_norm = np.einsum("pk,pk->p", right, right) - 2 * to_right + squares
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = product / np.sqrt(left_norm * right_norm)
    scores = np.full((folds, len(pairs.same)), np.nan)
    scores[:, pairs.present] = cosines
    return scores
