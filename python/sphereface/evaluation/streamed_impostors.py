"""Impostor scores too many to be kept: counted in fine bins, then exact where it matters.

The first pass over the scores counts them in bins; the second, made when ranks are looked up,
collects the few scores that share a bin with one asked for. Ranks and rates are exact; what is
drawn or integrated from the bins is so up to the width of a bin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.score_sets import Cut

__all__ = ["BINS", "StreamedImpostors", "bin_edge", "score_bin"]

BINS = 1 << 16
_LOW, _HIGH = -1.0001, 1.0001  # cosines, and what rounding adds
_COMPACT = 1 << 22


class StreamedImpostors:
    """Impostor scores that are computed again whenever they are looked at.

    Parameters
    ----------
    chunks : callable
        Returns an iterable over float arrays of any shape, the same ones at every call.

    Attributes
    ----------
    histogram : ndarray of shape (BINS,), int64
        How many scores are in each bin, by rising score.
    """

    def __init__(self, chunks: Callable[[], Iterable[NDArray[Any]]]) -> None:
        self._chunks = chunks
        self.histogram = np.zeros(BINS, np.int64)
        for scores in chunks():
            self.histogram += np.bincount(score_bin(scores).ravel(), minlength=BINS)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.histogram.sum())

    def cuts(self, ranks: Sequence[int]) -> list[Cut]:
        """Return the cut at each rank; 0 is the greatest score. Computes all scores once more."""
        if not ranks:
            return []
        from_top = np.cumsum(self.histogram[::-1])  # at place i: scores in the i + 1 top bins
        places = np.searchsorted(from_top, ranks, "right")
        filled = np.flatnonzero(self.histogram[::-1])
        # The least score above a bin is in the next bin up that is not empty.
        before = filled[np.maximum(np.searchsorted(filled, places) - 1, 0)]
        wanted = np.zeros(BINS, bool)
        wanted[BINS - 1 - np.concatenate([places, before])] = True
        values, counts = self._collect(wanted)
        bins = score_bin(values)
        if (np.bincount(bins, counts, BINS)[wanted] != self.histogram[wanted]).any():
            raise SphereFaceError(
                "other scores the second time", where="scorer", expected="the same for equal inputs"
            )
        return [
            _cut(values, counts, bins, int(BINS - 1 - place), int(from_top[place]), rank)
            for rank, place in zip(ranks, places, strict=True)
        ]

    def _collect(self, wanted: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the distinct scores in the wanted bins, rising, and how often each occurs."""
        values: NDArray[Any] = np.empty(0, np.float32)
        counts = np.empty(0, np.int64)
        held: list[NDArray[Any]] = []
        for scores in self._chunks():
            held.append(scores[wanted[score_bin(scores)]])
            if sum(map(len, held)) > _COMPACT:
                values, counts = _merged(values, counts, held)
                held = []
        return _merged(values, counts, held)


def score_bin(scores: NDArray[Any]) -> NDArray[np.intp]:
    """Return the bin of each score; it never falls where the score rises."""
    place = (scores - np.float32(_LOW)) * np.float32(BINS / (_HIGH - _LOW))
    return np.clip(place, 0, BINS - 1, out=place).astype(np.intp)


def bin_edge(index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the least score of a bin."""
    return np.asarray(index, np.float64) * ((_HIGH - _LOW) / BINS) + _LOW


def _merged(
    values: NDArray[Any], counts: NDArray[np.int64], held: list[NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    new = np.concatenate([values, *held])
    weight = np.concatenate([counts, np.ones(len(new) - len(values), np.int64)])
    distinct, index = np.unique(new, return_inverse=True)
    return distinct, np.bincount(index, weight, len(distinct)).astype(np.int64)


def _cut(
    values: NDArray[Any],
    counts: NDArray[np.int64],
    bins: NDArray[np.intp],
    wanted: int,
    down_to_bin: int,
    rank: int,
) -> Cut:
    """Return the cut of a rank in bin `wanted`; `down_to_bin` scores are in it and above."""
    start, stop = np.searchsorted(bins, [wanted, wanted + 1])
    inside = counts[start:stop]
    at_least = down_to_bin - np.cumsum(inside) + inside  # by rising value
    found = int(np.flatnonzero(at_least > rank)[-1])
    place = int(start) + found
    following = float(values[place + 1]) if place + 1 < len(values) else np.inf
    return Cut(
        float(values[place]),
        int(at_least[found] - inside[found]),
        int(at_least[found]),
        following if at_least[found] > inside[found] else np.inf,
    )
