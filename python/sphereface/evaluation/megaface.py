"""MegaFace's challenge 1: find one photograph among many of strangers.

Source: Kemelmacher-Shlizerman et al., CVPR 2016. Every photograph of a probe person is searched
for by every other photograph of that person, alone among D distractors: its rank is 1 + the
distractors with a score of at least its own (ties against us). The sets of distractors are nested:
the first D in the order given. Verification takes the same genuine scores, and all scores between
probes and distractors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.all_pairs import Scorer, inner_products, unit_rows
from sphereface.evaluation.far import OperatingPoint, tar_at_far
from sphereface.evaluation.far_table import far_table
from sphereface.evaluation.streamed_impostors import StreamedImpostors
from sphereface.evaluation.tables import Table, percent

__all__ = ["MegaFace", "megaface"]

_ROWS, _COLUMNS = 512, 8192
_FAR_TARGETS = (1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class MegaFace:
    """Ranks and verification.

    Attributes
    ----------
    sizes : list of int
        Numbers of distractors.
    rank : ndarray of shape (sizes, pairs), int64
        Of each mate searched for by each probe.
    points : list of OperatingPoint
    """

    sizes: list[int]
    rank: NDArray[np.int64]
    points: list[OperatingPoint]

    def cmc(self, ranks: int) -> NDArray[np.float64]:
        """Return the shares with a rank of at most 1 ... `ranks`: (sizes, ranks)."""
        return (self.rank[:, :, None] <= np.arange(1, ranks + 1)).mean(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        shares = self.cmc(10)
        return {
            "searches": self.rank.shape[1],
            "distractors": self.sizes,
            "rank_1": shares[:, 0].tolist(),
            "rank_10": shares[:, 9].tolist(),
            "tar_at_far": [point.to_dict() for point in self.points],
        }

    def tables(self) -> list[Table]:
        """Return rank 1 and 10 by the number of distractors, and TAR@FAR."""
        shares = self.cmc(10)
        rows = [
            [str(size), percent(own[0]), percent(own[9])]
            for size, own in zip(self.sizes, shares, strict=True)
        ]
        notes = [f"{self.rank.shape[1]:,} searches"]
        title = "Among distractors"
        return [
            Table(title, ["distractors", "rank 1", "rank 10"], rows, notes=notes),
            far_table(self.points),
        ]


def megaface(
    probes: ArrayLike,
    label: ArrayLike,
    distractors: ArrayLike,
    sizes: Sequence[int] | None = None,
    targets: Sequence[float] = _FAR_TARGETS,
    rule: str = "strict",
    scorer: Scorer | None = None,
    advance: Callable[[int], object] = lambda scores: None,
) -> MegaFace:
    """Search for every photograph of the probes among the distractors, by cosine.

    Parameters
    ----------
    probes : array_like of shape (P, K)
    label : array_like of shape (P,)
        Who each probe is; people with one photograph only have nothing to search for.
    distractors : array_like of shape (D, K)
        Of none of these people.
    sizes : sequence of int, optional
        Numbers of distractors, from 0 to D; 10, 100 ... and D when not given.
    targets, rule
        Of TAR@FAR.
    scorer : callable, optional
        As in `sphereface.evaluation.all_pairs`.
    advance : callable
        Told how many more scores were made; there are 3 P D.

    Returns
    -------
    MegaFace
    """
    own, others = unit_rows(probes), unit_rows(distractors)
    label, product = np.asarray(label), scorer or inner_products
    counts = sorted(set(_decades(len(others)) if sizes is None else sizes))
    if not counts or counts[0] < 0 or counts[-1] > len(others):
        raise SphereFaceError(
            f"sizes {counts}", where="MegaFace", expected=f"numbers from 0 to {len(others)}"
        )
    same = (label[:, None] == label) & ~np.eye(len(label), dtype=bool)
    if not same.any():
        raise SphereFaceError("no person has two photographs", where="MegaFace")
    found = [
        product(own[i : i + _ROWS], own)[same[i : i + _ROWS]] for i in range(0, len(own), _ROWS)
    ]
    genuine = np.concatenate(found)
    ends = np.cumsum(same.sum(axis=1))
    mates = np.split(genuine, ends[:-1])

    def chunks() -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(own), _ROWS):
            for left in range(0, len(others), _COLUMNS):
                scores = product(own[first : first + _ROWS], others[left : left + _COLUMNS])
                advance(scores.size)
                yield scores

    impostors = StreamedImpostors(chunks)
    rank = _ranks(own, others, mates, counts, product, advance)
    return MegaFace(counts, rank, tar_at_far(genuine, impostors, targets, rule))


def _decades(greatest: int) -> list[int]:
    sizes = [10**power for power in range(1, 7) if 10**power < greatest]
    return [*sizes, greatest]


def _ranks(
    own: NDArray[np.float32],
    others: NDArray[np.float32],
    mates: list[NDArray[np.float32]],
    sizes: list[int],
    product: Scorer,
    advance: Callable[[int], object],
) -> NDArray[np.int64]:
    """Return the rank of every mate for every size."""
    ahead = [np.zeros(len(scores), np.int64) for scores in mates]
    found = []
    done = 0
    for size in sizes:
        for left in range(done, size, _COLUMNS):
            part = others[left : min(left + _COLUMNS, size)]
            for first in range(0, len(own), _ROWS):
                ranked = np.sort(product(own[first : first + _ROWS], part), axis=1)
                for probe, scores in enumerate(ranked, first):
                    ahead[probe] += len(scores) - np.searchsorted(scores, mates[probe], "left")
                advance(ranked.size)
        done = size
        found.append(1 + np.concatenate(ahead))
    return np.array(found)
