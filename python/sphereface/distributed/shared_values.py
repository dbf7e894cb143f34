"""Sums over processes, and values that all of them have, for autograd.

Source: none. What differs from torch.distributed.nn: the derivative of a sum of shares is that of a
process's own share, so that nothing is sent for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.distributed.ranks import Ranks

__all__ = ["shared_value", "total_of_shares"]


def total_of_shares(own: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum of the processes' `own`; each is the derivative of its own share."""
    total: Tensor = _Total.apply(own, ranks)
    return total


def shared_value(value: Tensor, ranks: Ranks, input_scale: float) -> Tensor:
    """Return a value that every process has, whose gradient is the sum of theirs.

    Parameters
    ----------
    value : Tensor
        The same on every process.
    ranks : Ranks
        The processes.
    input_scale : float
        By which the gradients that it comes from were made larger, for the net before.
    """
    shared: Tensor = _Shared.apply(value, ranks, input_scale)
    return shared


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        return ranks.total(own.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks, input_scale: float) -> Tensor:
        ctx.ranks, ctx.input_scale = ranks, input_scale
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.ranks.total(grad.clone()) / ctx.input_scale, None, None
