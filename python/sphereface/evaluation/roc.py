"""The curve of accepted genuine pairs over accepted impostors, and where its two errors are equal.

A pair is accepted when its score is at least the threshold. Source: FVC2000 (Maio et al., 2002,
section 4.2) for the interval of the equal error rate.

What differs from scikit-learn's `roc_curve`: no vertex is left out, and tied scores of both kinds
are one step, so that looking a rate up is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.evaluation.score_sets import checked_scores

__all__ = ["EqualErrorRate", "Roc", "equal_error_rate", "roc"]


@dataclass(frozen=True)
class Roc:
    """Vertices by falling threshold; the first accepts nothing.

    Attributes
    ----------
    threshold : ndarray of shape (V,), float64
        Infinity, then every score that occurs.
    far, tar : ndarray of shape (V,), float64
        Shares of impostor and of genuine pairs with a score of at least the threshold.
    """

    threshold: NDArray[np.float64]
    far: NDArray[np.float64]
    tar: NDArray[np.float64]


@dataclass(frozen=True)
class EqualErrorRate:
    """Where as many impostors are accepted as genuine pairs are rejected.

    Attributes
    ----------
    value : float
        On the line between the two vertices around it.
    low, high : float
        FVC2000's interval: both rates at the vertex of the two whose sum is smaller.
    threshold : float
        The lower of the scores around it.
    """

    value: float
    low: float
    high: float
    threshold: float


def roc(genuine: ArrayLike, impostor: ArrayLike) -> Roc:
    """Return every vertex of the curve.

    Parameters
    ----------
    genuine : array_like of shape (M,)
        Scores of pairs of one person.
    impostor : array_like of shape (N,)
        Scores of pairs of two persons.

    Returns
    -------
    Roc

    Examples
    --------
    >>> curve = roc([0.9, 0.5], [0.5, 0.1])
    >>> curve.threshold.tolist(), curve.far.tolist(), curve.tar.tolist()
    ([inf, 0.9, 0.5, 0.1], [0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    mates = np.sort(checked_scores("genuine", genuine).astype(np.float64))
    others = np.sort(checked_scores("impostor", impostor).astype(np.float64))
    threshold = np.append(np.unique(np.concatenate([mates, others])), np.inf)[::-1]
    rates = [
        (len(scores) - np.searchsorted(scores, threshold, "left")) / len(scores)
        for scores in (others, mates)
    ]
    return Roc(threshold, *rates)


def equal_error_rate(curve: Roc) -> EqualErrorRate:
    """Return the equal error rate of `curve`."""
    frr = 1 - curve.tar
    gap = curve.far - frr
    after = int(np.argmax(gap >= 0))
    before = after if gap[after] == 0 else after - 1
    step = gap[after] - gap[before]
    share = -gap[before] / step if step else 0.0
    value = curve.far[before] + share * (curve.far[after] - curve.far[before])
    rates = [(curve.far[vertex], frr[vertex]) for vertex in (after, before)]
    low, high = sorted(min(rates, key=sum))
    return EqualErrorRate(float(value), float(low), float(high), float(curve.threshold[after]))
