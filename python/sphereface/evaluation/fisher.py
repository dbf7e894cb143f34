"""The angular Fisher score: how wide the classes are against how far apart they stand.

Source: the paper's appendix E. S_w / S_b with S_w the sum over all samples of 1 - cos(x, m_i), m_i
the mean of the sample's class, and S_b the sum over classes of n_i (1 - cos(m_i, m)), m the mean of
all. Lower is better. The means are of the features as they are; `normalize` takes unit features
first, which leaves the lengths of the features no say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.tables import Table

__all__ = ["FisherScore", "angular_fisher_score", "fisher_scores"]


@dataclass(frozen=True)
class FisherScore:
    """The score both ways.

    Attributes
    ----------
    raw, unit : float
        Means of the features as they are, as the paper writes it, and of unit features.
    """

    raw: float
    unit: float

    def to_dict(self) -> dict[str, Any]:
        """Return both for JSON."""
        return vars(self)

    def tables(self) -> list[Table]:
        """Return both."""
        rows = [["raw features", f"{self.raw:.4f}"], ["unit features", f"{self.unit:.4f}"]]
        return [Table("Angular Fisher score (lower is better)", ["", "score"], rows)]


def fisher_scores(features: ArrayLike, label: ArrayLike) -> FisherScore:
    """Return `angular_fisher_score` both ways."""
    return FisherScore(
        *(angular_fisher_score(features, label, normalize=unit) for unit in (False, True))
    )


def angular_fisher_score(
    features: ArrayLike, label: ArrayLike, *, normalize: bool = False
) -> float:
    """Return S_w / S_b.

    Parameters
    ----------
    features : array_like of shape (S, K)
    label : array_like of shape (S,)
    normalize : bool
        Take the means of unit features.

    Raises
    ------
    SphereFaceError
        Shapes do not fit, there is one class only, or a feature or a mean is zero.

    Examples
    --------
    >>> round(angular_fisher_score([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], [0, 0, 1, 1]), 4)
    0.0052
    """
    rows, label = np.asarray(features, np.float64), np.asarray(label)
    if rows.ndim != 2 or label.shape != rows.shape[:1]:
        raise SphereFaceError(
            f"features of shape {rows.shape} and labels of shape {label.shape}",
            where="angular Fisher score",
            expected="(S, K) and (S,)",
        )
    classes, index, sizes = np.unique(label, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise SphereFaceError(
            f"{len(classes)} class", where="angular Fisher score", expected="at least two"
        )
    unit = _directions(rows)
    if normalize:
        rows = unit
    means = np.zeros((len(classes), rows.shape[1]))
    np.add.at(means, index, rows)
    means /= sizes[:, None]
    directions = _directions(means)
    within = np.sum(1 - np.einsum("sk,sk->s", unit, directions[index]))
    between = np.sum(sizes * (1 - directions @ _directions(rows.mean(axis=0)[None])[0]))
    return float(within / between)


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise SphereFaceError(
            "a feature, or the mean of a class or of all, has no direction",
            where="angular Fisher score",
        )
    return rows / norms
