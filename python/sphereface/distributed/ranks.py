"""The exchanges between processes that share the classes, as functions of tensors.

Source: torch.distributed, which does the work. What differs from its calls: rows may be of
different numbers on the processes, and with one process nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Ranks"]

# torch 2.13's names of what torch 2.10 calls otherwise.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Ranks:
    """The processes of a group.

    Parameters
    ----------
    group : ProcessGroup, optional
        By default all processes of torch.distributed, or this one alone if it is not set up.

    Attributes
    ----------
    rank, ranks : int
        Which of how many this process is.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        alone = group is None and not (dist.is_available() and dist.is_initialized())
        self.rank = 0 if alone else dist.get_rank(group)
        self.ranks = 1 if alone else dist.get_world_size(group)

    def sizes(self, count: int, device: torch.device) -> list[int]:
        """Return every process's `count`; waits for the device."""
        if self.ranks == 1:
            return [count]
        counts = torch.empty(self.ranks, dtype=torch.int64, device=device)
        own = torch.tensor([count], device=device)
        _all_gather(counts, own, group=self.group)
        return [int(value) for value in counts.tolist()]

    def gather(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the rows of all processes, in the order of their ranks.

        Parameters
        ----------
        rows : Tensor of shape (sizes[rank], ...)
            This process's.
        sizes : sequence of int
            How many each process has.
        """
        if self.ranks == 1:
            return rows
        most = max(sizes)
        blocks = rows.new_empty(self.ranks * most, *rows.shape[1:])
        _all_gather(blocks, _padded(rows, most), group=self.group)
        if min(sizes) == most:
            return blocks
        return torch.cat([b[:n] for b, n in zip(blocks.split(most), sizes, strict=True)])

    def scatter_sum(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return this process's part of the sum of all processes' `rows`; as `gather` put them."""
        if self.ranks == 1:
            return rows
        most = max(sizes)
        if min(sizes) < most:
            rows = torch.cat([_padded(part, most) for part in rows.split(list(sizes))])
        own = rows.new_empty(most, *rows.shape[1:])
        _reduce_scatter(own, rows.contiguous(), group=self.group)
        return own[: sizes[self.rank]]

    def largest(self, values: Tensor) -> Tensor:
        """Return the elementwise maximum over the processes, in the memory of `values`."""
        if self.ranks > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def smallest(self, values: Tensor) -> Tensor:
        """Return the elementwise minimum over the processes, in the memory of `values`."""
        if self.ranks > 1:
            dist.all_reduce(values, dist.ReduceOp.MIN, group=self.group)
        return values

    def total(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over the processes, in the memory of `values`."""
        if self.ranks > 1:
            dist.all_reduce(values, group=self.group)
        return values


def _padded(rows: Tensor, count: int) -> Tensor:
    missing = count - len(rows)
    if missing:
        rows = F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing))
    return rows.contiguous()
