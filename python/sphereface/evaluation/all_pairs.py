"""Every pair of a set of images: false accept rates that no list of pairs can measure.

13,233 images make 87 million pairs. Scores are cosines, computed tile by tile and never kept;
those of one person are collected, those of two are counted (`streamed_impostors`). The matrix
product may be handed in, so that a GPU makes it: this package knows no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.far import FAR_TARGETS, OperatingPoint, tar_at_far
from sphereface.evaluation.far_table import far_table
from sphereface.evaluation.roc import EqualErrorRate, Roc, equal_error_rate
from sphereface.evaluation.streamed_impostors import BINS, StreamedImpostors, bin_edge, score_bin
from sphereface.evaluation.tables import Table, percent

__all__ = ["AllPairs", "Scorer", "all_pairs", "inner_products", "unit_rows"]

# Takes (m, K) and (n, K) float32, returns their (m, n) inner products as a float32 array.
Scorer = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

_ROWS, _COLUMNS = 512, 8192  # a tile is 16 MiB


@dataclass(frozen=True)
class AllPairs:
    """Figures over all pairs.

    Attributes
    ----------
    genuine : ndarray of shape (M,), float32
        Scores of the pairs of one person, rising.
    impostors : StreamedImpostors
    points : list of OperatingPoint
        Exact. Their intervals take pairs as independent, which they are not.
    eer : EqualErrorRate
    auc, auc_error : float
        From bins; the exact area is at most `auc_error` away.
    """

    genuine: NDArray[np.float32]
    impostors: StreamedImpostors
    points: list[OperatingPoint]
    eer: EqualErrorRate
    auc: float
    auc_error: float

    @property
    def curve(self) -> Roc:
        """The ROC curve at the bins' edges."""
        return _binned_curve(self.genuine, self.impostors)

    def histogram(
        self, bins: int = 128
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Return edges, genuine and impostor counts, of `bins` bins (a power of two)."""
        mates = np.bincount(score_bin(self.genuine), minlength=BINS)
        counts = [one.reshape(bins, -1).sum(axis=1) for one in (mates, self.impostors.histogram)]
        return bin_edge(np.arange(bins + 1) * (BINS // bins)), counts[0], counts[1]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "genuine": len(self.genuine),
            "impostors": self.impostors.count,
            "eer": vars(self.eer),
            "auc": self.auc,
            "auc_error": self.auc_error,
            "tar_at_far": [point.to_dict() for point in self.points],
        }

    def tables(self) -> list[Table]:
        """Return EER and AUC, and TAR@FAR."""
        rows = [["EER", percent(self.eer.value)], ["AUC", percent(self.auc, 4)]]
        return [Table("All pairs", ["", "value"], rows), far_table(self.points)]


def all_pairs(
    features: ArrayLike,
    label: ArrayLike,
    targets: Sequence[float] = FAR_TARGETS,
    rule: str = "strict",
    scorer: Scorer | None = None,
    advance: Callable[[int], object] = lambda pairs: None,
) -> AllPairs:
    """Judge the cosines of all S (S - 1) / 2 pairs.

    Parameters
    ----------
    features : array_like of shape (S, K)
    label : array_like of shape (S,)
        Who is in each image; names or numbers.
    targets : sequence of float
        False accept rates.
    rule : str
        Of TAR@FAR; see `sphereface.evaluation.far`.
    scorer : callable, optional
        (m, K) and (n, K) float32 to (m, n) inner products; numpy's product when not given. It must
        return equal scores for equal inputs, for all are computed twice.
    advance : callable
        Told how many more pairs were scored; there are S (S - 1) in both passes.

    Returns
    -------
    AllPairs
    """
    tiles = _Tiles(*_sorted(features, label), scorer or inner_products, advance)
    genuine: list[NDArray[np.float32]] = []
    impostors = StreamedImpostors(lambda: tiles.impostors(genuine))
    mates = np.sort(np.concatenate(genuine)) if genuine else np.empty(0, np.float32)
    if not len(mates) or not impostors.count:
        raise SphereFaceError(
            f"{len(mates)} pairs of one person and {impostors.count} of two",
            where="all pairs",
            expected="some of each",
        )
    points = tar_at_far(mates, impostors, targets, rule)
    curve = _binned_curve(mates, impostors)
    return AllPairs(
        mates, impostors, points, equal_error_rate(curve), *_binned_area(mates, impostors)
    )


def inner_products(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner products of all rows: (m, n)."""
    return left @ right.T


def unit_rows(features: ArrayLike) -> NDArray[np.float32]:
    """Return the rows as float32 at unit length; a row of zeros, without direction, is an error."""
    rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or not rows.size:
        raise SphereFaceError(f"features of shape {rows.shape}", expected="(images, K)")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        raise SphereFaceError(
            f"the feature of row {bad[0]} has no direction: its norm is {norms[bad[0], 0]}",
            where="features",
        )
    return rows / norms


def _sorted(features: ArrayLike, label: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit features by label, and where each row's label ends."""
    rows = unit_rows(features)
    _, index = np.unique(np.asarray(label), return_inverse=True)
    if index.shape != rows.shape[:1]:
        raise SphereFaceError(
            f"{len(rows)} features and labels of shape {index.shape}", expected="a label a row"
        )
    order = np.argsort(index, kind="stable")
    return rows[order], np.cumsum(np.bincount(index))[index[order]]


class _Tiles:
    """The scores above the diagonal, tile by tile, of rows sorted by label."""

    def __init__(
        self,
        rows: NDArray[np.float32],
        end: NDArray[np.int64],
        scorer: Scorer,
        advance: Callable[[int], object],
    ) -> None:
        self._rows, self._end, self._scorer, self._advance = rows, end, scorer, advance

    def impostors(self, genuine: list[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yield the scores of two persons; put those of one into `genuine`, which is emptied."""
        genuine.clear()
        count = len(self._rows)
        for first in range(0, count, _ROWS):
            last = min(first + _ROWS, count)
            # Beyond this column no row of the tile meets its own label: no mask is needed.
            clear = int(self._end[last - 1])
            edges = [*range(first, clear, _COLUMNS), *range(clear, count, _COLUMNS), count]
            for left, right in itertools.pairwise(edges):
                scores = self._scorer(self._rows[first:last], self._rows[left:right])
                if left >= clear:
                    yield scores
                    self._advance(scores.size)
                    continue
                row, column = np.arange(first, last)[:, None], np.arange(left, right)
                end = self._end[first:last, None]
                genuine.append(scores[(column > row) & (column < end)])
                yield scores[column >= end]
                self._advance(int(np.count_nonzero(column > row)))


def _binned_curve(genuine: NDArray[np.float32], impostors: StreamedImpostors) -> Roc:
    mates = np.bincount(score_bin(genuine), minlength=BINS)
    used = np.flatnonzero(mates + impostors.histogram)[::-1]
    far, tar = (
        np.append(0, np.cumsum(counts[used]) / counts.sum())
        for counts in (impostors.histogram, mates)
    )
    return Roc(np.append(np.inf, bin_edge(used)), far, tar)


def _binned_area(genuine: NDArray[np.float32], impostors: StreamedImpostors) -> tuple[float, float]:
    mates = np.bincount(score_bin(genuine), minlength=BINS).astype(np.float64)
    others = impostors.histogram.astype(np.float64)
    below = np.cumsum(others) - others
    pairs = mates.sum() * others.sum()
    ties = float(mates @ others) / 2
    return (float(mates @ below) + ties) / pairs, ties / pairs
