"""Features of verification pairs in folds, checked: what every fold protocol starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError

__all__ = ["FoldedPairs", "folded_pairs"]

_WHERE = "verification pairs"


@dataclass(frozen=True)
class FoldedPairs:
    """P pairs of K features in F folds.

    Attributes
    ----------
    left, right : ndarray of shape (P, K), float64
        Rows of missing pairs are 0.
    same : ndarray of shape (P,), bool
    numbers : ndarray of shape (F,)
        The folds' numbers, ascending.
    member : ndarray of shape (P,), int64
        Index into `numbers` of each pair's fold.
    present : ndarray of shape (P,), bool
        Pairs that have features.
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    same: NDArray[np.bool_]
    numbers: NDArray[Any]
    member: NDArray[np.int64]
    present: NDArray[np.bool_]

    @property
    def every_fold(self) -> NDArray[np.int64]:
        """0 to F - 1."""
        return np.arange(len(self.numbers))

    def fold_means(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean of P values in each fold: (F,)."""
        return np.array([values[self.member == index].mean() for index in self.every_fold])


def folded_pairs(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    missing: ArrayLike | None = None,
) -> FoldedPairs:
    """Check the arguments of a fold protocol; `sphereface.evaluation.ten_fold` documents them.

    Raises
    ------
    SphereFaceError
        Shapes do not fit, a feature is not finite, or nothing would be left to learn from when a
        fold is held out.
    """
    left, right = _features("left", left), _features("right", right)
    pairs = len(left)
    if left.shape != right.shape:
        raise SphereFaceError(
            f"left has shape {left.shape} and right {right.shape}",
            where=_WHERE,
            expected="two arrays of one shape (P, K)",
        )
    absent = np.zeros(pairs, bool) if missing is None else _flags("missing", missing, pairs)
    same, fold = _flags("same", same, pairs), _per_pair("fold", fold, pairs)
    numbers, member = np.unique(fold, return_inverse=True)
    if len(numbers) < 2:
        raise SphereFaceError(f"{len(numbers)} fold", where=_WHERE, expected="at least two")
    if len(np.unique(member[~absent])) < 2:
        raise SphereFaceError(
            f"{absent.sum()} of {pairs} pairs have no features",
            where=_WHERE,
            expected="pairs with features in two folds at least",
        )
    for name, side in (("left", left), ("right", right)):
        side[absent] = 0
        _refuse_infinite(name, side)
    return FoldedPairs(left, right, same, numbers, member, ~absent)


def _features(name: str, value: ArrayLike) -> NDArray[np.float64]:
    array = np.array(value, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise SphereFaceError(
            f"{name} has shape {array.shape}", where=_WHERE, expected="(pairs, features)"
        )
    return array


def _refuse_infinite(name: str, array: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise SphereFaceError(
            f"{name} has {bad.size} rows that are not finite, the first at {bad[0]}",
            where=_WHERE,
            fix="mark those pairs as missing, or give them a feature",
        )


def _flags(name: str, value: ArrayLike, pairs: int) -> NDArray[np.bool_]:
    array = _per_pair(name, value, pairs)
    if array.dtype != bool:
        raise SphereFaceError(
            f"{name} has dtype {array.dtype}",
            where=_WHERE,
            expected="bool",
            fix="for flags of 1 and -1 pass flag == 1",
        )
    return array


def _per_pair(name: str, value: ArrayLike, pairs: int) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape != (pairs,):
        raise SphereFaceError(
            f"{name} has shape {array.shape}",
            where=_WHERE,
            expected=f"({pairs},): one value a pair",
        )
    return array
