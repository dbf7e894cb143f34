"""The share of genuine pairs accepted at a false accept rate (TAR@FAR), by one of four rules.

A pair is accepted when its score is at least the threshold. "TAR@FAR" means different things in
different programs; docs/evaluation.md has them side by side. The rules:

strict
    The smallest score that occurs whose FAR does not exceed the target. The default.
nearest
    The vertex of the curve with the FAR nearest to the target, on either side (insightface, pyeer).
interp
    Linear between the strict vertex and the next (opensphere).
blufr
    The score of the impostor of rank round(target N) (BLUFR); for rank 0 halfway between the top
    impostor and the next genuine score above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError, nearest
from sphereface.evaluation.score_sets import Cut, Impostors, SortedImpostors, checked_scores
from sphereface.extras import require

__all__ = ["FAR_TARGETS", "RULES", "OperatingPoint", "tar_at_far"]

FAR_TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

# Fewer expected false accepts than this, and their number says little ("rule of 30": Doddington
# et al., Speech Communication 31, 2000).
_ENOUGH = 30


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold set for one false accept rate does.

    Attributes
    ----------
    target : float
        The FAR asked for.
    rule : str
    genuine, impostors : int
        Numbers of pairs.
    measurable : bool
        False when the impostors are fewer than 1 / target; the figures below are then None.
    few : bool
        Fewer than 30 false accepts are expected: take the figure as rough.
    far, tar : float or None
        Rates achieved.
    threshold : float or None
        Infinity when only accepting nothing keeps the FAR.
    low, high : float or None
        Wilson's 95 % interval of `tar`, for independent pairs; where images or people repeat,
        `sphereface.evaluation.bootstrap` is the honest one.
    """

    target: float
    rule: str
    genuine: int
    impostors: int
    measurable: bool
    few: bool
    far: float | None = None
    tar: float | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, where infinity has no number."""
        fields = asdict(self)
        if self.threshold is not None and not np.isfinite(self.threshold):
            fields["threshold"] = None
        return fields


def tar_at_far(
    genuine: ArrayLike,
    impostor: ArrayLike | Impostors,
    targets: Sequence[float] = FAR_TARGETS,
    rule: str = "strict",
) -> list[OperatingPoint]:
    """Return the operating point at each false accept rate.

    Parameters
    ----------
    genuine : array_like of shape (M,)
        Scores of pairs of one person.
    impostor : array_like of shape (N,), or Impostors
        Scores of pairs of two persons.
    targets : sequence of float
        False accept rates from 0 to 1.
    rule : str
        "strict", "nearest", "interp" or "blufr"; see the module.

    Returns
    -------
    list of OperatingPoint

    Raises
    ------
    SphereFaceError
        A target is not a rate, the rule is unknown, or there are no scores.

    Examples
    --------
    >>> [point] = tar_at_far([0.9, 0.7, 0.4], [0.6, 0.5, 0.3, 0.2], [0.25])
    >>> point.threshold, point.far, round(point.tar, 4)
    (0.6, 0.25, 0.6667)
    """
    if rule not in RULES:
        raise SphereFaceError(
            f'rule "{rule}"', expected=", ".join(RULES), fix=nearest(rule, RULES), where="FAR"
        )
    wrong = [target for target in targets if not 0 <= target <= 1]
    if wrong:
        raise SphereFaceError(f"{wrong[0]}", where="FAR", expected="a rate from 0 to 1")
    mates = np.sort(checked_scores("genuine", genuine))
    others: Impostors = impostor if isinstance(impostor, Impostors) else SortedImpostors(impostor)
    allowed = [_allowed(target, others.count) for target in targets]
    measurable = [target == 0 or count > 0 for target, count in zip(targets, allowed, strict=True)]
    rank, _ = RULES[rule]
    ranks = [
        min(rank(target, count, others.count), others.count - 1)
        for target, count, able in zip(targets, allowed, measurable, strict=True)
        if able
    ]
    cuts = iter(others.cuts(ranks))
    return [
        _point(mates, others, target, count, rule, next(cuts) if able else None)
        for target, count, able in zip(targets, allowed, measurable, strict=True)
    ]


def _allowed(target: float, count: int) -> int:
    """Return the greatest k with k / count <= target; the product alone may round down."""
    allowed = int(target * count)
    return allowed + 1 if (allowed + 1) / count <= target else allowed


def _point(
    mates: NDArray[Any], others: Impostors, target: float, allowed: int, rule: str, cut: Cut | None
) -> OperatingPoint:
    few = target * others.count < _ENOUGH
    if cut is None:
        return OperatingPoint(target, rule, len(mates), others.count, False, few)
    _, vertex = RULES[rule]
    threshold, far, tar = vertex(mates, others.count, target, allowed, cut)
    test = require("scipy.stats", "evaluation").binomtest(round(tar * len(mates)), len(mates))
    interval = test.proportion_ci(method="wilson")
    ends = (float(interval.low), float(interval.high))
    return OperatingPoint(
        target, rule, len(mates), others.count, True, few, far, tar, threshold, *ends
    )


_Vertex = tuple[float, float, float]  # threshold, far, tar


def _accepted(mates: NDArray[Any], threshold: float) -> float:
    return (len(mates) - int(np.searchsorted(mates, threshold, "left"))) / len(mates)


def _before(mates: NDArray[Any], count: int, cut: Cut) -> _Vertex:
    """Return the vertex of the smallest score above the cut."""
    first = int(np.searchsorted(mates, cut.score, "right"))
    own = float(mates[first]) if first < len(mates) else np.inf
    return min(own, cut.next_above), cut.above / count, (len(mates) - first) / len(mates)


def _at(mates: NDArray[Any], count: int, cut: Cut) -> _Vertex:
    return cut.score, cut.at_least / count, _accepted(mates, cut.score)


def _strict(mates: NDArray[Any], count: int, target: float, allowed: int, cut: Cut) -> _Vertex:
    if allowed == count:
        return min(float(mates[0]), cut.score), 1.0, 1.0
    return _before(mates, count, cut)


def _nearest(mates: NDArray[Any], count: int, target: float, allowed: int, cut: Cut) -> _Vertex:
    if allowed == count:
        return _strict(mates, count, target, allowed, cut)
    before, after = _before(mates, count, cut), _at(mates, count, cut)
    # 1e-12: 0.32 and 0.26 are equally near to 0.29, whatever their float64 differences say.
    return after if after[1] - target <= target - before[1] + 1e-12 else before


def _interp(mates: NDArray[Any], count: int, target: float, allowed: int, cut: Cut) -> _Vertex:
    before = _strict(mates, count, target, allowed, cut)
    if before[1] == target:
        return before
    after = _at(mates, count, cut)
    share = (target - before[1]) / (after[1] - before[1])
    start = before[0] if np.isfinite(before[0]) else after[0]
    threshold = start + share * (after[0] - start)
    return threshold, target, before[2] + share * (after[2] - before[2])


def _blufr(mates: NDArray[Any], count: int, target: float, allowed: int, cut: Cut) -> _Vertex:
    if _blufr_rank(target, allowed, count) >= 0:
        return _at(mates, count, cut)
    _, _, tar = _before(mates, count, cut)
    first = len(mates) - round(tar * len(mates))
    threshold = (cut.score + float(mates[first])) / 2 if first < len(mates) else np.inf
    return threshold, 0.0, tar


def _blufr_rank(target: float, allowed: int, count: int) -> int:
    return int(target * count + 0.5) - 1


# For each rule, the rank of the impostor that decides, and the vertex made of it.
_Rank = Callable[[float, int, int], int]
_Decision = Callable[[NDArray[Any], int, float, int, Cut], _Vertex]
RULES: dict[str, tuple[_Rank, _Decision]] = {
    "strict": (lambda target, allowed, count: allowed, _strict),
    "nearest": (lambda target, allowed, count: allowed, _nearest),
    "interp": (lambda target, allowed, count: allowed, _interp),
    "blufr": (lambda target, allowed, count: max(_blufr_rank(target, allowed, count), 0), _blufr),
}
