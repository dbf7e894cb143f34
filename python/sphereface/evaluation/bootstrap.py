"""Intervals of TAR@FAR that know that people repeat: whole identities are drawn again.

Pairs that share a person are not independent, and an interval that takes them as such is too
narrow. Source: Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the
subsets bootstrap", Computer Vision and Image Understanding 93 (2004). A person drawn twice counts
twice: a pair of one person weighs its number of draws, a pair of two the product of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["identity_intervals"]


def identity_intervals(
    scores: ArrayLike,
    left: Sequence[str],
    right: Sequence[str],
    targets: Sequence[float],
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[tuple[float, float]]:
    """Return the interval of the TAR at each false accept rate, by the strict rule.

    Parameters
    ----------
    scores : array_like of shape (P,)
    left, right : sequence of P str
        Who is on each side; equal names make a genuine pair.
    targets : sequence of float
        False accept rates.
    replicates : int
        Draws of as many people as there are, with replacement.
    seed : int
        Equal seeds give equal intervals.
    confidence : float
        Share of the replicates between the ends.

    Returns
    -------
    list of (low, high)
    """
    scores = np.asarray(scores, np.float64)
    names, index = np.unique(np.concatenate([left, right]), return_inverse=True)
    order = np.argsort(-scores, kind="stable")
    first, second = index[: len(scores)][order], index[len(scores) :][order]
    same, ranked = first == second, scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of equal scores
    rng = np.random.default_rng(seed)
    found = [
        _rates(
            rng.multinomial(len(names), np.full(len(names), 1 / len(names))),
            first,
            second,
            same,
            last,
            targets,
        )
        for _ in range(replicates)
    ]
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(np.array(found), ends, axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _rates(
    draws: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    same: NDArray[np.bool_],
    last: NDArray[np.int64],
    targets: Sequence[float],
) -> list[float]:
    weight = np.where(same, draws[first], draws[first] * draws[second])
    mates, others = (np.cumsum(np.where(kind, weight, 0))[last] for kind in (same, ~same))
    if not mates[-1] or not others[-1]:
        return [np.nan] * len(targets)
    accepted = [int(np.searchsorted(others / others[-1], target, "right")) for target in targets]
    return [float(mates[count - 1] / mates[-1]) if count else 0.0 for count in accepted]
