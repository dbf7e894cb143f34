"""Listed galleries and probes searched: IJB's 1:N, closed and open set, averaged over galleries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.evaluation.far import OperatingPoint
from sphereface.evaluation.features import Features
from sphereface.evaluation.identification import (
    FPIR_TARGETS,
    Search,
    centroids,
    cmc,
    search,
    tpir_at_fpir,
)
from sphereface.evaluation.tables import Table, percent

__all__ = ["GallerySearch", "search_galleries"]

_RANKS = (1, 5, 10)

Identities = tuple[Sequence[str], Sequence[str]]  # items, persons


@dataclass(frozen=True)
class GallerySearch:
    """What the probes found in each gallery.

    Attributes
    ----------
    items : str
        "each": a person's best item counts; "centroid": one item a person.
    searches : list of Search
    points : list of list of OperatingPoint
        Of each gallery; `tar` and `far` are TPIR and FPIR. Empty for a gallery that has a mate for
        every probe.
    """

    items: str
    searches: list[Search]
    points: list[list[OperatingPoint]]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        galleries = []
        for found, points in zip(self.searches, self.points, strict=True):
            curve = cmc(found, max(_RANKS))
            galleries.append(
                {
                    "mated_probes": int(found.mated.sum()),
                    "non_mated_probes": int((~found.mated).sum()),
                    "cmc": {str(rank): float(curve[rank - 1]) for rank in _RANKS},
                    "tpir_at_fpir": [point.to_dict() for point in points],
                }
            )
        return {"items": self.items, "galleries": galleries}

    def tables(self) -> list[Table]:
        """Return CMC and TPIR, a column a gallery, and their mean."""
        names = [f"gallery {number}" for number in range(1, len(self.searches) + 1)]
        curves = [cmc(found, max(_RANKS)) for found in self.searches]
        lines: list[tuple[str, list[float | None]]] = [
            (f"rank {rank}", [float(curve[rank - 1]) for curve in curves]) for rank in _RANKS
        ]
        if all(self.points):
            for at in zip(*self.points, strict=True):
                lines.append((f"TPIR@FPIR {at[0].target:g}", [point.tar for point in at]))
        rows = []
        for name, shares in lines:
            measured = [share for share in shares if share is not None]
            mean = sum(measured) / len(shares) if len(measured) == len(shares) else None
            rows.append([name, *(percent(share) for share in shares), percent(mean)])
        notes = [
            f"{name}: {found.mated.sum()} mated, {(~found.mated).sum()} non-mated probes"
            for name, found in zip(names, self.searches, strict=True)
        ]
        return [Table("Identification", ["", *names, "mean"], rows, notes=notes)]


def search_galleries(
    features: Features,
    galleries: Sequence[Identities],
    probes: Identities,
    items: str = "each",
    targets: Sequence[float] = FPIR_TARGETS,
) -> GallerySearch:
    """Search for the probes in each gallery by cosine.

    Parameters
    ----------
    features : Features
    galleries : sequence of (items, persons)
        Names of features and who they are, as `sphereface.evaluation.templates.read_identities`
        returns.
    probes : (items, persons)
    items : str
        "each" or "centroid".
    targets : sequence of float
        FPIRs.

    Returns
    -------
    GallerySearch
    """
    if items not in ("each", "centroid"):
        raise SphereFaceError(f'gallery items "{items}"', expected="each or centroid")
    wanted = features.features[_rows(features, probes[0])]
    searches = []
    for names, persons in galleries:
        held, who = features.features[_rows(features, names)], np.asarray(persons)
        if items == "centroid":
            held, who = centroids(held, who)
        searches.append(search(wanted, probes[1], held, who))
    points = [[] if found.mated.all() else tpir_at_fpir(found, targets) for found in searches]
    return GallerySearch(items, searches, points)


def _rows(features: Features, names: Sequence[str]) -> np.ndarray:
    rows = features.rows(names)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise SphereFaceError(
            f"{names[missing[0]]}, and {missing.size - 1} other listed items, have no features",
            where=features.where,
        )
    return rows
