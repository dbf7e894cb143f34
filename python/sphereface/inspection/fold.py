"""Repeated blocks of a net's diagram, found so that each is drawn once.

A block is a run of boxes that comes again at once: the same kinds of layers, shapes and arrows,
counted backwards from each box. Deep nets are little else: the released SphereFace-64 is 29 units
of three boxes and four changes of resolution.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from sphereface.inspection.boxes import Arrow, Box, Diagram

__all__ = ["Block", "fold"]

_LEAST_REPEATS = 3
_LONGEST_BLOCK = 64


@dataclass(frozen=True)
class Block:
    """Boxes ``start`` to ``stop`` of a folded diagram stand for `repeats` such runs of boxes."""

    start: int
    stop: int
    repeats: int
    first: str
    last: str


def fold(diagram: Diagram) -> tuple[Diagram, tuple[Block, ...]]:
    """Keep the first of each run of equal blocks.

    Arrows into a block are those of its first copy, arrows out of it those of its last.

    Parameters
    ----------
    diagram : Diagram

    Returns
    -------
    Diagram
        With the boxes that are left.
    tuple of Block
        Where they repeat, in the folded diagram's indices; `first` and `last` are the layers that
        the whole run starts and ends with.
    """
    tokens = _tokens(diagram)
    keeper: list[int] = []  # box to the box that stands for it
    runs: list[tuple[int, int, int]] = []  # start, period, repeats
    index = 0
    while index < len(tokens):
        period, repeats = _best_run(tokens, index, diagram)
        if repeats > 1:
            shift = _shift(tokens, index, period, repeats, diagram)
            keeper += range(index, index + shift)
            index += shift
        keeper += [index + place % period for place in range(period * repeats)]
        if repeats > 1:
            runs.append((index, period, repeats))
        index += period * repeats
    kept = sorted(set(keeper))
    position = {box: place for place, box in enumerate(kept)}
    arrows = [
        replace(arrow, source=position[keeper[arrow.source]], target=position[arrow.target])
        for arrow in diagram.arrows
        if arrow.target in position
    ]
    boxes = diagram.boxes
    blocks = tuple(
        Block(
            position[start],
            position[start] + period,
            repeats,
            boxes[start].stripes[0].name,
            boxes[start + period * repeats - 1].stripes[-1].name,
        )
        for start, period, repeats in runs
    )
    return Diagram(diagram.name, tuple(boxes[box] for box in kept), tuple(arrows)), blocks


def _tokens(diagram: Diagram) -> list[Hashable]:
    sources: list[list[tuple[int, int]]] = [[] for _ in diagram.boxes]
    for arrow in diagram.arrows:
        sources[arrow.target].append((arrow.target - arrow.source, arrow.port))
    return [(_look(box), tuple(sources[index])) for index, box in enumerate(diagram.boxes)]


def _look(box: Box) -> Hashable:
    return (
        tuple((stripe.kind, stripe.colour) for stripe in box.stripes),
        tuple(top.shape for top in box.tops),
    )


def _best_run(tokens: Sequence[Hashable], start: int, diagram: Diagram) -> tuple[int, int]:
    """Return the period and the repeats that save most boxes; (1, 1) when nothing repeats."""
    best, saved = (1, 1), 0
    for period in range(1, min(_LONGEST_BLOCK, (len(tokens) - start) // _LEAST_REPEATS) + 1):
        repeats = _repeats(tokens, start, period)
        gain = (repeats - 1) * period
        if repeats < _LEAST_REPEATS or gain <= saved:
            continue
        if _closed(diagram.arrows, start, period, repeats):
            best, saved = (period, repeats), gain
    return best


def _repeats(tokens: Sequence[Hashable], start: int, period: int) -> int:
    block, repeats = tokens[start : start + period], 1
    while tokens[start + repeats * period : start + (repeats + 1) * period] == block:
        repeats += 1
    return repeats


def _shift(
    tokens: Sequence[Hashable], start: int, period: int, repeats: int, diagram: Diagram
) -> int:
    """Return how much later the run begins best: where fewest blobs go from copy to copy.

    Residual units could be cut anywhere; cut behind their sums, one blob is handed on.
    """

    def handed_on(shift: int) -> int:
        cut = start + shift + period
        return len({arrow.source for arrow in diagram.arrows if arrow.source < cut <= arrow.target})

    return min(
        (
            shift
            for shift in range(period)
            if _repeats(tokens, start + shift, period) >= repeats
            and _closed(diagram.arrows, start + shift, period, repeats)
        ),
        key=handed_on,
    )


def _closed(arrows: Sequence[Arrow], start: int, period: int, repeats: int) -> bool:
    """Return whether only the last copy is read from behind the run, and nothing skips a copy."""
    last, stop = start + (repeats - 1) * period, start + repeats * period
    for arrow in arrows:
        inside = start <= arrow.target < stop
        if start <= arrow.source < last and not arrow.target < stop:
            return False
        copies = (arrow.target - start) // period - (arrow.source - start) // period
        if inside and arrow.target >= start + period and copies > 1:
            return False
    return True
