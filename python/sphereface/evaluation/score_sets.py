"""The two sets of scores that every verification figure is made of: genuine and impostor.

Figures at a low false accept rate only ask where the scores of the impostors stand at a few ranks.
`Impostors` is that question; `SortedImpostors` answers it from an array, and
`sphereface.evaluation.all_pairs.StreamedImpostors` from scores too many to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError

__all__ = ["Cut", "Impostors", "SortedImpostors", "checked_scores"]


@dataclass(frozen=True)
class Cut:
    """Where the impostor of a rank stands.

    Attributes
    ----------
    score : float
        Its score.
    above, at_least : int
        Impostors with a greater score, and with this or a greater one.
    next_above : float
        The least impostor score that is greater; infinity when none is.
    """

    score: float
    above: int
    at_least: int
    next_above: float


@runtime_checkable
class Impostors(Protocol):
    """Impostor scores of which ranks can be looked up."""

    @property
    def count(self) -> int:
        """How many there are."""

    def cuts(self, ranks: Sequence[int]) -> list[Cut]:
        """Return the cut at each rank; 0 is the greatest score."""


class SortedImpostors:
    """Impostor scores in memory.

    Parameters
    ----------
    scores : array_like of shape (N,)
    """

    def __init__(self, scores: ArrayLike) -> None:
        self._scores = np.sort(checked_scores("impostor", scores))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._scores)

    def cuts(self, ranks: Sequence[int]) -> list[Cut]:
        """Return the cut at each rank; 0 is the greatest score."""
        return [self._cut(rank) for rank in ranks]

    def _cut(self, rank: int) -> Cut:
        score = self._scores[self.count - 1 - rank]
        at_least = self.count - int(np.searchsorted(self._scores, score, "left"))
        above = self.count - int(np.searchsorted(self._scores, score, "right"))
        next_above = float(self._scores[self.count - above]) if above else np.inf
        return Cut(float(score), above, at_least, next_above)


def checked_scores(name: str, scores: ArrayLike) -> NDArray[Any]:
    """Return `scores` as an array.

    Raises
    ------
    SphereFaceError
        It has not one axis, is empty or holds NaN.
    """
    array = np.asarray(scores)
    if array.ndim != 1 or not array.size:
        raise SphereFaceError(
            f"shape {array.shape}", where=f"{name} scores", expected="at least one score, in a row"
        )
    missing = int(np.isnan(array).sum())
    if missing:
        raise SphereFaceError(
            f"{missing} of {array.size} are NaN",
            where=f"{name} scores",
            fix="leave out pairs without a score",
        )
    return array
