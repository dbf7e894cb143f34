"""The area under the ROC curve with DeLong's interval, and the difference of two areas.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); by midranks as Sun and Xu, IEEE
Signal Processing Letters 21 (2014). The interval is symmetric on the logit scale, so that it stays
between 0 and 1. Neither scikit-learn nor scipy has the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.score_sets import checked_scores
from sphereface.extras import require

__all__ = ["Area", "AreaDifference", "area", "area_difference"]


@dataclass(frozen=True)
class Area:
    """Probability that a genuine pair outscores an impostor; a tie counts half.

    Attributes
    ----------
    value, variance : float
        The variance is 0 when all genuine pairs outscore all impostors: the interval then has no
        width, which says nothing about other data.
    low, high : float
        Confidence interval.
    """

    value: float
    variance: float
    low: float
    high: float


@dataclass(frozen=True)
class AreaDifference:
    """The first model's area less the second's, over the same pairs.

    Attributes
    ----------
    value, standard_error : float
    p_value : float
        Two-sided, of no difference; 1 when neither varies.
    """

    value: float
    standard_error: float
    p_value: float


def area(genuine: ArrayLike, impostor: ArrayLike, confidence: float = 0.95) -> Area:
    """Return the area under the curve and its interval.

    Parameters
    ----------
    genuine : array_like of shape (M,)
    impostor : array_like of shape (N,)
    confidence : float
        Of the interval.

    Returns
    -------
    Area

    Examples
    --------
    >>> round(area([0.9, 0.6, 0.4], [0.5, 0.4, 0.1]).value, 4)
    0.8333
    """
    values, variances = _areas([genuine], [impostor])
    value, variance = float(values[0]), float(variances[0, 0])
    if not 0 < value < 1:
        return Area(value, variance, value, value)
    middle = np.log(value / (1 - value))
    half = _normal_quantile(confidence) * variance**0.5 / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-end))) for end in (middle - half, middle + half))
    return Area(value, variance, low, high)


def area_difference(
    genuine: tuple[ArrayLike, ArrayLike], impostor: tuple[ArrayLike, ArrayLike]
) -> AreaDifference:
    """Return the difference of two models' areas; their scores are of the same pairs.

    Parameters
    ----------
    genuine : two array_like of shape (M,)
        Scores by the first and by the second model, in one order.
    impostor : two array_like of shape (N,)

    Returns
    -------
    AreaDifference
    """
    values, covariance = _areas(list(genuine), list(impostor))
    difference = float(values[0] - values[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = max(variance, 0.0) ** 0.5
    normal = require("scipy.stats", "evaluation").norm
    p = float(2 * normal.sf(abs(difference) / error)) if error else float(difference == 0)
    return AreaDifference(difference, error, p)


def _areas(
    genuine: list[ArrayLike], impostor: list[ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the areas and their covariance matrix."""
    mates = np.stack([checked_scores("genuine", scores) for scores in genuine])
    others = np.stack([checked_scores("impostor", scores) for scores in impostor])
    m, n = mates.shape[1], others.shape[1]
    if min(m, n) < 2:
        raise SphereFaceError(
            f"{m} genuine and {n} impostor scores",
            where="area under the curve",
            expected="at least two of each, to estimate a variance",
        )
    ranks = require("scipy.stats", "evaluation").rankdata
    pooled = ranks(np.concatenate([mates, others], axis=1), axis=1)
    of_mates = (pooled[:, :m] - ranks(mates, axis=1)) / n
    of_others = 1 - (pooled[:, m:] - ranks(others, axis=1)) / m
    covariance = np.cov(of_mates) / m + np.cov(of_others) / n
    return of_mates.mean(axis=1), np.atleast_2d(covariance)


def _normal_quantile(confidence: float) -> float:
    return float(require("scipy.stats", "evaluation").norm.ppf((1 + confidence) / 2))
