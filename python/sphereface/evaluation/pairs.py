"""Balanced verification pairs over labelled samples, in folds as LFW's list has them.

What differs from LFW: folds share classes and samples (a pair is in one fold only), because the
data sets this is for have few classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError

__all__ = ["Pairs", "verification_pairs"]


@dataclass(frozen=True)
class Pairs:
    """Indices of the samples of P pairs, whether they are of one class, and their fold.

    Attributes
    ----------
    left, right : ndarray of shape (P,), int64
        Indices into the samples; left < right.
    same : ndarray of shape (P,), bool
        Whether both samples have one label.
    fold : ndarray of shape (P,), int64
        1 to the number of folds, in order.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


def verification_pairs(
    label: ArrayLike, per_fold: int = 300, folds: int = 10, seed: int = 0
) -> Pairs:
    """Draw pairs without repetition: in each fold as many of one class as of two.

    Parameters
    ----------
    label : array_like of shape (S,), int
        Class of every sample. All S (S - 1) / 2 pairs are listed in memory.
    per_fold : int
        Pairs of one class in a fold, and pairs of two classes.
    folds : int
        Number of folds.
    seed : int
        Equal seeds give equal pairs.

    Returns
    -------
    Pairs
        ``2 * per_fold * folds`` pairs; in a fold those of one class come first, as in LFW's list.

    Raises
    ------
    SphereFaceError
        There are fewer pairs of a kind than asked for.

    Examples
    --------
    >>> pairs = verification_pairs([0, 0, 0, 1, 1, 1], per_fold=1, folds=2)
    >>> pairs.fold, pairs.same
    (array([1, 1, 2, 2]), array([ True, False,  True, False]))
    """
    label = np.asarray(label)
    first, second = np.triu_indices(len(label), k=1)
    equal = label[first] == label[second]
    rng = np.random.default_rng(seed)
    drawn = [
        _draw(rng, np.flatnonzero(equal == kind), per_fold, folds, name)
        for kind, name in ((True, "of one class"), (False, "of two classes"))
    ]
    chosen = np.concatenate(drawn, axis=1).ravel()  # (folds, 2 per_fold) flattened
    fold = np.repeat(np.arange(1, folds + 1), 2 * per_fold)
    return Pairs(first[chosen], second[chosen], equal[chosen], fold)


def _draw(
    rng: np.random.Generator, candidates: NDArray[np.int64], per_fold: int, folds: int, name: str
) -> NDArray[np.int64]:
    if len(candidates) < per_fold * folds:
        raise SphereFaceError(
            f"the samples make {len(candidates)} pairs {name}",
            where="verification_pairs",
            expected=f"at least {per_fold * folds}",
            fix="ask for fewer pairs or folds, or give more samples",
        )
    return rng.choice(candidates, per_fold * folds, replace=False).reshape(folds, per_fold)
