"""Everything that is asked of verification pairs, from their features: one call, one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.auc import Area, area
from sphereface.evaluation.bootstrap import identity_intervals
from sphereface.evaluation.ensemble import pca_ten_fold
from sphereface.evaluation.far import FAR_TARGETS, OperatingPoint, tar_at_far
from sphereface.evaluation.far_table import far_table
from sphereface.evaluation.features import person
from sphereface.evaluation.pair_features import PairFeatures
from sphereface.evaluation.protocols import protocol
from sphereface.evaluation.roc import EqualErrorRate, Roc, equal_error_rate, roc
from sphereface.evaluation.tables import Table, percent, percent_range
from sphereface.evaluation.ten_fold import FoldResult

__all__ = ["Verification", "verify"]


@dataclass(frozen=True)
class Verification:
    """Figures of verification pairs.

    Attributes
    ----------
    pairs : PairFeatures
    protocol : str
    folds : FoldResult
        The accuracies, and the scores that the other figures are made of.
    curve : Roc
    eer : EqualErrorRate
    area : Area
    points : list of OperatingPoint
    intervals : list of (low, high)
        95 % of the TAR at each point, over identities; empty where nothing names them.
    """

    pairs: PairFeatures
    protocol: str
    folds: FoldResult
    curve: Roc
    eer: EqualErrorRate
    area: Area
    points: list[OperatingPoint]
    intervals: list[tuple[float, float]]

    @property
    def without_direction(self) -> int:
        """Pairs that have features but no score, because one is exactly the mean, or zero."""
        return int((np.isnan(self.folds.scores) & ~self.pairs.missing).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; `accuracy` and `threshold` have a value a fold."""
        points = [point.to_dict() for point in self.points]
        for point, (low, high) in zip(points, self.intervals, strict=False):
            point["identity_low"], point["identity_high"] = low, high
        return {
            "protocol": self.protocol,
            "pairs": len(self.pairs.same),
            "missing_pairs": int(self.pairs.missing.sum()),
            "missing_images": list(self.pairs.missing_names),
            "pairs_without_direction": self.without_direction,
            "fold": self.folds.fold.tolist(),
            "accuracy": self.folds.accuracy.tolist(),
            "threshold": self.folds.threshold.tolist(),
            "mean_accuracy": self.folds.mean,
            "standard_error": self.folds.standard_error,
            "eer": vars(self.eer),
            "auc": vars(self.area),
            "tar_at_far": points,
        }

    def tables(self) -> list[Table]:
        """Return the original's table, the summary figures and TAR@FAR."""
        folds = [
            [str(number), percent(share)]
            for number, share in zip(self.folds.fold, self.folds.accuracy, strict=True)
        ]
        notes = [f"standard error of the mean {percent(self.folds.standard_error)}"]
        missing = int(self.pairs.missing.sum())
        if missing:
            notes.append(
                f"{missing} pairs count as wrong: {len(self.pairs.missing_names)} images have no"
                " features"
            )
        if self.without_direction:
            notes.append(
                f"{self.without_direction} pairs count as wrong: a feature is zero or the mean"
            )
        summary = [
            ["EER", percent(self.eer.value), percent_range(self.eer.low, self.eer.high)],
            ["AUC", percent(self.area.value, 3), percent_range(self.area.low, self.area.high, 3)],
        ]
        return [
            Table("", ["fold", "ACC"], folds, ["AVE", percent(self.folds.mean)], notes),
            Table("", ["", "value", "interval"], summary),
            far_table(self.points, self.intervals),
        ]


def verify(
    pairs: PairFeatures,
    protocol_name: str = "sphereface",
    targets: Sequence[float] = FAR_TARGETS,
    rule: str = "strict",
    components: int | None = None,
) -> Verification:
    """Judge verification pairs.

    Parameters
    ----------
    pairs : PairFeatures
    protocol_name : str
        A key of `sphereface.evaluation.protocols.PROTOCOLS`.
    targets : sequence of float
        False accept rates.
    rule : str
        Of TAR@FAR; see `sphereface.evaluation.far`.
    components : int, optional
        Reduce the features by a PCA fitted on the other folds; the sphereface protocol's only.

    Returns
    -------
    Verification
    """
    arguments = (pairs.left, pairs.right, pairs.same, pairs.fold)
    if components is None:
        folds = protocol(protocol_name)(*arguments, missing=pairs.missing)
    elif protocol_name == "sphereface":
        folds = pca_ten_fold(*arguments, components, missing=pairs.missing)
    else:
        raise SphereFaceError(f"a PCA with protocol {protocol_name}", expected="sphereface")
    known = ~np.isnan(folds.scores)
    genuine, impostor = (folds.scores[known & kind] for kind in (pairs.same, ~pairs.same))
    curve = roc(genuine, impostor)
    points = tar_at_far(genuine, impostor, targets, rule)
    return Verification(
        pairs,
        protocol_name,
        folds,
        curve,
        equal_error_rate(curve),
        area(genuine, impostor),
        points,
        _intervals(pairs, folds.scores, known, targets),
    )


def _intervals(
    pairs: PairFeatures,
    scores: NDArray[np.float64],
    known: NDArray[np.bool_],
    targets: Sequence[float],
) -> list[tuple[float, float]]:
    if not pairs.left_name:
        return []
    kept = np.flatnonzero(known).tolist()
    left, right = (
        [person(names[i]) for i in kept] for names in (pairs.left_name, pairs.right_name)
    )
    same = np.array([a == b for a, b in zip(left, right, strict=True)])
    # Where names do not tell persons, drawing names again would not draw persons again.
    if (same != pairs.same[kept]).any():
        return []
    return identity_intervals(scores[kept], left, right, targets)
