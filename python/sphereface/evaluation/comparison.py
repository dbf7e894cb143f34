"""Two models on the same pairs: whether one is better, or it was luck.

Three paired questions. AUC: DeLong's covariance (`auc`). Accuracy: McNemar's exact test on the
pairs that only one of the two judged rightly, each fold by its own threshold. Folds: the mean
difference of the ten accuracies with its standard error, as tables of LFW figures are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.auc import AreaDifference, area_difference
from sphereface.evaluation.tables import Table
from sphereface.evaluation.ten_fold import FoldResult
from sphereface.extras import require

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The first model less the second.

    Attributes
    ----------
    accuracy, standard_error : float
        Mean difference over the folds.
    only_first, only_second : int
        Pairs that only this model judged rightly.
    p_value : float
        McNemar's, two-sided, of equal accuracy.
    auc : AreaDifference
    """

    accuracy: float
    standard_error: float
    only_first: int
    only_second: int
    p_value: float
    auc: AreaDifference

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {**vars(self), "auc": vars(self.auc)}

    def tables(self) -> list[Table]:
        """Return one table."""
        rows = [
            [
                "accuracy",
                f"{100 * self.accuracy:+.2f}",
                f"{100 * self.standard_error:.2f}",
                f"{self.p_value:.3g} (McNemar: {self.only_first} against {self.only_second} pairs)",
            ],
            [
                "AUC",
                f"{100 * self.auc.value:+.4f}",
                f"{100 * self.auc.standard_error:.4f}",
                f"{self.auc.p_value:.3g} (DeLong)",
            ],
        ]
        header = ["", "difference", "standard error", "p"]
        return [Table("First model less the second, percentage points", header, rows)]


def compare(first: FoldResult, second: FoldResult, same: NDArray[np.bool_]) -> Comparison:
    """Compare two models judged on the same pairs by one protocol.

    Parameters
    ----------
    first, second : FoldResult
    same : ndarray of shape (P,), bool
        Whether a pair shows one person.
    """
    if first.scores.shape != second.scores.shape or len(first.scores) != len(same):
        raise SphereFaceError(
            f"{len(first.scores)} and {len(second.scores)} pairs",
            where="comparison",
            expected="the same pairs",
        )
    only_first = int((first.right & ~second.right).sum())
    only_second = int((second.right & ~first.right).sum())
    test = require("scipy.stats", "evaluation").binomtest
    split = only_first + only_second
    p = float(test(only_first, split).pvalue) if split else 1.0
    gains = first.accuracy - second.accuracy
    known = ~np.isnan(first.scores) & ~np.isnan(second.scores)
    genuine, impostor = (
        (first.scores[known & kind], second.scores[known & kind]) for kind in (same, ~same)
    )
    error = float(gains.std(ddof=1) / len(gains) ** 0.5)
    areas = area_difference(genuine, impostor)
    return Comparison(float(gains.mean()), error, only_first, only_second, p, areas)
