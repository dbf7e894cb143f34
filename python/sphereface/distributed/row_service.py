"""Rows that are split over processes, to and from process 0, a few MiB at a time.

For files, which hold whole weights: no process ever has more than its own rows and a chunk. Process
0 asks for each chunk, so that it may stop at any of them (a full disk) and nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sphereface.class_range import ClassRange
from sphereface.distributed.ranks import Ranks
from sphereface.weights import StreamedArray

__all__ = ["RowService", "scatter_rows"]

_CHUNK = 1 << 22  # bytes
_ROWS = 16  # a multiple, at which torch's generators can be stopped and started again
_END = -1


class RowService:
    """Gives process 0 the rows of tensors of which each process has a part.

    Every process makes it with its parts of the same tensors. A context manager: process 0 reads
    what `whole` returns within the block; on the others entering serves until that block has ended.

    Parameters
    ----------
    ranks : Ranks
        Of a group that sends CPU tensors.
    parts : sequence of (Tensor, ClassRange)
        2-D tensors of this process's rows.
    """

    def __init__(self, ranks: Ranks, parts: Sequence[tuple[Tensor, ClassRange]]) -> None:
        self._ranks, self._parts = ranks, list(parts)

    def __enter__(self) -> RowService:
        if self._ranks.rank:
            self._serve()
        return self

    def __exit__(self, *raised: object) -> None:
        if not self._ranks.rank:
            self._ask(_END, 0, 0)

    def whole(self, part: Tensor) -> StreamedArray:
        """Return the whole of one of the tensors, to be read within the block."""
        index = next(i for i, (tensor, _) in enumerate(self._parts) if tensor is part)
        total = self._parts[index][1].total
        return StreamedArray((total, part.shape[1]), lambda: self._read(index))

    def _read(self, index: int) -> Iterator[np.ndarray]:
        tensor, classes = self._parts[index]
        for owner in range(self._ranks.ranks):
            share = ClassRange.of(owner, self._ranks.ranks, classes.total)
            for begin, end in _chunks(share.first, share.first + share.count, tensor.shape[1]):
                if owner == 0:
                    yield _plain(tensor[begin:end]).numpy()
                    continue
                self._ask(index, begin, end)
                rows = torch.empty(end - begin, tensor.shape[1])
                dist.recv(rows, group=self._ranks.group, group_src=owner)
                yield rows.numpy()

    def _ask(self, *request: int) -> None:
        if self._ranks.ranks > 1:
            dist.broadcast(torch.tensor(request), group=self._ranks.group, group_src=0)

    def _serve(self) -> None:
        request = torch.empty(3, dtype=torch.int64)
        while True:
            dist.broadcast(request, group=self._ranks.group, group_src=0)
            index, begin, end = request.tolist()
            if index == _END:
                return
            tensor, classes = self._parts[index]
            if classes.first <= begin < classes.first + classes.count:
                rows = _plain(tensor[begin - classes.first : end - classes.first])
                dist.send(rows, group=self._ranks.group, group_dst=0)


@torch.no_grad()
def scatter_rows(
    ranks: Ranks, part: Tensor, classes: ClassRange, draw: Callable[[Tensor], object]
) -> None:
    """Fill every process's part of a tensor with what process 0 draws, in the order of the rows.

    Parameters
    ----------
    ranks : Ranks
        Of a group that sends CPU tensors.
    part : Tensor
        This process's rows.
    classes : ClassRange
        Which they are.
    draw : callable
        Fills a tensor of rows in place; called on process 0.
    """
    for begin, end in _chunks(0, classes.total, part.shape[1]):
        rows = torch.empty(end - begin, part.shape[1])
        if ranks.rank == 0:
            draw(rows)
        for owner in range(ranks.ranks):
            share = ClassRange.of(owner, ranks.ranks, classes.total)
            first, last = max(begin, share.first), min(end, share.first + share.count)
            if first >= last:
                continue
            here = rows[first - begin : last - begin]
            if owner and ranks.rank == 0:
                dist.send(here, group=ranks.group, group_dst=owner)
            elif owner and ranks.rank == owner:
                dist.recv(here, group=ranks.group, group_src=0)
            if ranks.rank == owner:
                part[first - share.first : last - share.first] = here


def _plain(rows: Tensor) -> Tensor:
    return rows.detach().to("cpu", torch.float32).contiguous()


def _chunks(begin: int, end: int, columns: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _CHUNK // (4 * columns * _ROWS)) * _ROWS
    for first in range(begin, end, rows):
        yield first, min(first + rows, end)
