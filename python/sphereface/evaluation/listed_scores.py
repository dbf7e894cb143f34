"""Pairs without folds, however many: IJB's 1:1 lists of templates.

Cosines of the features as they are, ROC figures over all of them; no threshold is chosen, so no
fold is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.all_pairs import unit_rows
from sphereface.evaluation.auc import Area, area
from sphereface.evaluation.far import FAR_TARGETS, OperatingPoint, tar_at_far
from sphereface.evaluation.far_table import far_table
from sphereface.evaluation.features import Features
from sphereface.evaluation.pair_lists import PairList
from sphereface.evaluation.roc import EqualErrorRate, Roc, equal_error_rate, roc
from sphereface.evaluation.tables import Table, percent, percent_range

__all__ = ["ListedScores", "score_list"]

_ROWS = 1 << 16


@dataclass(frozen=True)
class ListedScores:
    """Figures of listed pairs.

    Attributes
    ----------
    scores : ndarray of shape (P,), float32
    same : ndarray of shape (P,), bool
    curve : Roc
    eer : EqualErrorRate
    area : Area
    points : list of OperatingPoint
    """

    scores: NDArray[np.float32]
    same: NDArray[np.bool_]
    curve: Roc
    eer: EqualErrorRate
    area: Area
    points: list[OperatingPoint]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "pairs": len(self.scores),
            "eer": vars(self.eer),
            "auc": vars(self.area),
            "tar_at_far": [point.to_dict() for point in self.points],
        }

    def tables(self) -> list[Table]:
        """Return EER and AUC, and TAR@FAR."""
        rows = [
            ["EER", percent(self.eer.value), percent_range(self.eer.low, self.eer.high)],
            ["AUC", percent(self.area.value, 3), percent_range(self.area.low, self.area.high, 3)],
        ]
        return [Table("Listed pairs", ["", "value", "interval"], rows), far_table(self.points)]


def score_list(
    features: Features,
    pairs: PairList,
    targets: Sequence[float] = FAR_TARGETS,
    rule: str = "strict",
) -> ListedScores:
    """Score every listed pair by cosine.

    Raises
    ------
    SphereFaceError
        A listed name has no features.
    """
    rows = [features.rows(names) for names in (pairs.left, pairs.right)]
    for own, names in zip(rows, (pairs.left, pairs.right), strict=True):
        missing = np.flatnonzero(own < 0)
        if missing.size:
            raise SphereFaceError(
                f"{names[missing[0]]}, and {missing.size - 1} other names of the list, have no"
                " features",
                where=features.where,
            )
    unit = unit_rows(features.features)
    scores = np.concatenate(
        [
            np.einsum("pk,pk->p", unit[rows[0][i : i + _ROWS]], unit[rows[1][i : i + _ROWS]])
            for i in range(0, len(pairs.same), _ROWS)
        ]
    )
    genuine, impostor = scores[pairs.same], scores[~pairs.same]
    curve = roc(genuine, impostor)
    return ListedScores(
        scores,
        pairs.same,
        curve,
        equal_error_rate(curve),
        area(genuine, impostor),
        tar_at_far(genuine, impostor, targets, rule),
    )
