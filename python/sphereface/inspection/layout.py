"""Layered drawing of a directed acyclic graph, from top to bottom.

Source: the scheme of Sugiyama, Tagawa and Toda (1981): ranks by longest path, bends where an edge
crosses a rank, crossings reduced by barycentres. What differs: coordinates come from alternating
weighted least squares, a rank at a time, solved exactly by pooling adjacent violators, so that
chains are straight and long edges run vertically beside them.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Layout", "Point", "arrange"]

Point = tuple[float, float]

_SWEEPS, _PASSES, _SETTLED = 12, 400, 0.02
# How much an edge wants to be vertical: between two boxes or two bends much, to a bend little.
_STRAIGHT, _SLACK = 1.0, 0.0005
_BEND_WIDTH = 10.0


@dataclass(frozen=True)
class Layout:
    """Where everything goes; y grows downwards.

    Attributes
    ----------
    boxes : list of Point
        Left upper corner of each box.
    routes : list of list of Point
        For each edge the points it passes, first at the lower side of its source, last at the
        upper side of its target. Between points 2k and 2k + 1 it changes rank, and between 2k + 1
        and 2k + 2 it runs straight down beside the boxes of a rank.
    width, height : float
        Size of the drawing.
    """

    boxes: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


@dataclass
class _Vertex:
    """A box, or the bend of an edge in a rank that it passes."""

    rank: int
    width: float
    is_bend: bool
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0


def arrange(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    *,
    gap: float = 40.0,
    spacing: float = 24.0,
) -> Layout:
    """Place boxes and route edges.

    Parameters
    ----------
    sizes : sequence of (width, height)
        Of each box. Boxes are in topological order.
    edges : sequence of (source, target)
        Indices of boxes, source < target; edges may repeat.
    gap : float
        Height between ranks.
    spacing : float
        Least width between neighbours in a rank.

    Returns
    -------
    Layout
    """
    ranks = _ranks(len(sizes), edges)
    vertices = [_Vertex(ranks[i], width, False) for i, (width, _) in enumerate(sizes)]
    chains = [_chain(vertices, source, target) for source, target in edges]
    rows = _order(vertices)
    _place(vertices, rows, spacing)
    heights = [max(sizes[v][1] for v in row if v < len(sizes)) for row in rows]
    tops = [0.0]
    for height in heights:
        tops.append(tops[-1] + height + gap)
    left = min((v.x - v.width / 2 for v in vertices), default=0.0)
    right = max((v.x + v.width / 2 for v in vertices), default=0.0)
    routes = []
    for (source, _), chain in zip(edges, chains, strict=True):
        rank = ranks[source]
        points = [(vertices[source].x - left, tops[rank] + sizes[source][1])]
        for bend in chain[1:-1]:
            rank = vertices[bend].rank
            x = vertices[bend].x - left
            points += [(x, tops[rank]), (x, tops[rank] + heights[rank])]
        target = chain[-1]
        points.append((vertices[target].x - left, tops[ranks[target]]))
        routes.append(points)
    boxes = [
        (vertex.x - vertex.width / 2 - left, tops[vertex.rank]) for vertex in vertices[: len(sizes)]
    ]
    return Layout(boxes, routes, right - left, max(tops[-1] - gap, 0.0))


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the longest distance from the start; sources are moved down to their readers."""
    ranks = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        ranks[target] = max(ranks[target], ranks[source] + 1)
    has_input = {target for _, target in edges}
    for node in range(count):
        readers = [ranks[target] for source, target in edges if source == node]
        if node not in has_input and readers:
            ranks[node] = min(readers) - 1
    return ranks


def _chain(vertices: list[_Vertex], source: int, target: int) -> list[int]:
    """Add the bends of an edge; return its vertices from source to target."""
    chain = [source]
    for rank in range(vertices[source].rank + 1, vertices[target].rank):
        chain.append(len(vertices))
        vertices.append(_Vertex(rank, _BEND_WIDTH, True))
    chain.append(target)
    for upper, lower in itertools.pairwise(chain):
        vertices[upper].below.append(lower)
        vertices[lower].above.append(upper)
    return chain


def _order(vertices: Sequence[_Vertex]) -> list[list[int]]:
    """Return the vertices of each rank from left to right, with few crossings."""
    rows: list[list[int]] = [[] for _ in range(1 + max((v.rank for v in vertices), default=-1))]
    for index, vertex in enumerate(vertices):
        rows[vertex.rank].append(index)
    best, fewest = [list(row) for row in rows], _crossings(vertices, rows)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        downward = sweep % 2 == 0
        for rank in range(len(rows)) if downward else reversed(range(len(rows))):
            _sort_row(vertices, rows, rank, downward)
        crossings = _crossings(vertices, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _sort_row(
    vertices: Sequence[_Vertex], rows: list[list[int]], rank: int, downward: bool
) -> None:
    beside = rank - 1 if downward else rank + 1
    if not 0 <= beside < len(rows):
        return
    position = {vertex: index for index, vertex in enumerate(rows[beside])}
    own = {vertex: index for index, vertex in enumerate(rows[rank])}

    def barycentre(vertex: int) -> float:
        others = vertices[vertex].above if downward else vertices[vertex].below
        places = [position[other] for other in others]
        return sum(places) / len(places) if places else own[vertex]

    rows[rank].sort(key=barycentre)


def _crossings(vertices: Sequence[_Vertex], rows: Sequence[Sequence[int]]) -> int:
    total = 0
    for upper, lower in itertools.pairwise(rows):
        position = {vertex: index for index, vertex in enumerate(lower)}
        seen: list[int] = []
        for vertex in upper:
            ends = [position[other] for other in vertices[vertex].below]
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _place(vertices: Sequence[_Vertex], rows: Sequence[Sequence[int]], spacing: float) -> None:
    """Set x so that edges are as vertical as the order and the widths allow."""
    for row in rows:
        right = 0.0
        for index in row:
            vertices[index].x = right + vertices[index].width / 2
            right += vertices[index].width + spacing
        for index in row:
            vertices[index].x -= (right - spacing) / 2
    for step in range(_PASSES):
        before = [vertex.x for vertex in vertices]
        for row in rows if step % 2 == 0 else reversed(rows):
            _place_row(vertices, row, spacing)
        moves = (abs(vertex.x - x) for vertex, x in zip(vertices, before, strict=True))
        if max(moves, default=0.0) < _SETTLED:
            break


def _place_row(vertices: Sequence[_Vertex], row: Sequence[int], spacing: float) -> None:
    """Move a rank to the least squares of its edges' slants, keeping order and distances."""
    offset = 0.0
    blocks: list[tuple[float, float, int]] = []  # (mean of wish minus offset, weight, members)
    offsets = []
    for place, index in enumerate(row):
        vertex = vertices[index]
        if place:
            offset += (vertices[row[place - 1]].width + vertex.width) / 2 + spacing
        offsets.append(offset)
        wish, weight = _wish(vertices, vertex)
        mean, total, members = wish - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, other_total, other_members = blocks.pop()
            mean = (mean * total + other * other_total) / (total + other_total)
            total, members = total + other_total, members + other_members
        blocks.append((mean, total, members))
    means = [mean for mean, _, members in blocks for _ in range(members)]
    for index, mean, start in zip(row, means, offsets, strict=True):
        vertices[index].x = mean + start


def _wish(vertices: Sequence[_Vertex], vertex: _Vertex) -> tuple[float, float]:
    """Return where a vertex wants to be and how much."""
    total = weighted = 0.0
    for other in (*vertex.above, *vertex.below):
        weight = _STRAIGHT if vertices[other].is_bend == vertex.is_bend else _SLACK
        total += weight
        weighted += weight * vertices[other].x
    return (weighted / total, total) if total else (vertex.x, _SLACK)
