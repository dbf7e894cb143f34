"""Who is it: ranks in a gallery, the CMC curve, and the open set where a probe may be nobody's.

Source: NIST's definitions as IJB uses them (Grother and Ngan, FRVT 1:N). A rank counts against the
model where scores tie: 1 + the gallery's items of *other* people with a score of at least the best
mate's. Closed set: the share of mated probes with a rank of at most r. Open set: FPIR(t) is the
share of non-mated probes whose greatest score is at least t, TPIR(t, r) the share of mated probes
whose mate has a score of at least t and a rank of at most r.

insightface's 1:N script sets its threshold on pairs and looks at no rank: another definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.all_pairs import Scorer, inner_products, unit_rows
from sphereface.evaluation.far import OperatingPoint, tar_at_far

__all__ = [
    "FPIR_TARGETS",
    "Search",
    "centroids",
    "cmc",
    "search",
    "search_scores",
    "tpir_at_fpir",
]

FPIR_TARGETS = (0.1, 0.01)
_ROWS = 512


@dataclass(frozen=True)
class Search:
    """What P probes found in a gallery.

    Attributes
    ----------
    rank : ndarray of shape (P,), int64
        Of the best mate; 0 where the gallery has none.
    mate : ndarray of shape (P,), float
        The best mate's score; -infinity where there is none.
    other : ndarray of shape (P,), float
        The greatest score of somebody else; -infinity where there is nobody else.
    """

    rank: NDArray[np.int64]
    mate: NDArray[np.floating]
    other: NDArray[np.floating]

    @property
    def mated(self) -> NDArray[np.bool_]:
        """Which probes have a mate."""
        return self.rank > 0


def search_scores(scores: ArrayLike, probe: ArrayLike, gallery: ArrayLike) -> Search:
    """Search with a matrix of scores.

    Parameters
    ----------
    scores : array_like of shape (P, G)
    probe : array_like of shape (P,)
        Who each probe is.
    gallery : array_like of shape (G,)
        Who each item is; a person may have several, of which the best counts.

    Returns
    -------
    Search
    """
    scores, probe, gallery = np.asarray(scores), np.asarray(probe), np.asarray(gallery)
    if scores.shape != (len(probe), len(gallery)):
        raise SphereFaceError(
            f"scores of shape {scores.shape}",
            where="search",
            expected=f"({len(probe)}, {len(gallery)}): a row a probe, a column an item",
        )
    if np.isnan(scores).any():
        raise SphereFaceError("a score is NaN", where="search")
    same = probe[:, None] == gallery
    mate = np.max(scores, axis=1, where=same, initial=-np.inf)
    other = np.max(scores, axis=1, where=~same, initial=-np.inf)
    ahead = np.count_nonzero(~same & (scores >= mate[:, None]), axis=1)
    return Search(np.where(same.any(axis=1), 1 + ahead, 0), mate, other)


def search(
    probe_features: ArrayLike,
    probe: ArrayLike,
    gallery_features: ArrayLike,
    gallery: ArrayLike,
    scorer: Scorer | None = None,
) -> Search:
    """Search by cosine, some probes at a time.

    Parameters
    ----------
    probe_features : array_like of shape (P, K)
    probe : array_like of shape (P,)
    gallery_features : array_like of shape (G, K)
    gallery : array_like of shape (G,)
    scorer : callable, optional
        As in `sphereface.evaluation.all_pairs`.
    """
    probes, items = unit_rows(probe_features), unit_rows(gallery_features)
    probe, gallery, product = np.asarray(probe), np.asarray(gallery), scorer or inner_products
    parts = [
        search_scores(product(probes[i : i + _ROWS], items), probe[i : i + _ROWS], gallery)
        for i in range(0, len(probes), _ROWS)
    ]
    return Search(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("rank", "mate", "other"))
    )


def centroids(features: ArrayLike, label: ArrayLike) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return one item a person: the mean of the unit features, at unit length; and who it is."""
    rows = unit_rows(features)
    people, index = np.unique(np.asarray(label), return_inverse=True)
    sums = np.zeros((len(people), rows.shape[1]))
    np.add.at(sums, index, rows)
    return unit_rows(sums), people


def cmc(found: Search, ranks: int) -> NDArray[np.float64]:
    """Return the share of mated probes with a rank of at most 1, 2 ... `ranks`."""
    own = found.rank[found.mated]
    if not len(own):
        raise SphereFaceError("no probe has a mate in the gallery", where="CMC")
    return np.cumsum(np.bincount(own, minlength=ranks + 1)[1 : ranks + 1]) / len(own)


def tpir_at_fpir(
    found: Search,
    targets: Sequence[float] = FPIR_TARGETS,
    rank: int = 1,
    rule: str = "strict",
) -> list[OperatingPoint]:
    """Return the TPIR at each false positive identification rate.

    Parameters
    ----------
    found : Search
        With mated and non-mated probes.
    targets : sequence of float
        FPIRs.
    rank : int
        Mates behind it do not count as found.
    rule : str
        As in `sphereface.evaluation.far`; `far` and `tar` of the points are FPIR and TPIR.

    Returns
    -------
    list of OperatingPoint
    """
    mated = found.mated
    if mated.all() or not mated.any():
        raise SphereFaceError(
            f"{mated.sum()} mated and {(~mated).sum()} non-mated probes",
            where="open set",
            expected="some of each",
        )
    scores = np.where(found.rank[mated] <= rank, found.mate[mated], -np.inf)
    return tar_at_far(scores, found.other[~mated], targets, rule)
