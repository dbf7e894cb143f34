"""A gradient that a layer defines by hand: rows added to the diff of its weight.

CenterLoss and InterClass write to their weight's diff what is not the derivative of their loss, and
whatever weight that loss has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["add_row_gradient"]


def add_row_gradient(value: Tensor, weight: Tensor, label: Tensor, rows: Tensor) -> Tensor:
    """Return `value`; a backward through it also adds `rows` to the gradient of `weight`.

    Parameters
    ----------
    value : Tensor
        Passes through, with its own gradient.
    weight : Tensor of shape (N, K)
        Gets the gradient; its values are not looked at.
    label : Tensor of shape (M,), int64
        Row of `weight` for each of `rows`; equal labels add up.
    rows : Tensor of shape (M, K)
        Not scaled by the gradient of `value`.
    """
    if not torch.is_grad_enabled():
        return value
    return _AddRowGradient.apply(value, weight, label, rows)


class _AddRowGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, label: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(label, rows)
        ctx.weight_shape = weight.shape
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        label, rows = ctx.saved_tensors
        dweight = None
        if ctx.needs_input_grad[1]:
            dweight = rows.new_zeros(ctx.weight_shape).index_add_(0, label, rows)
        return grad, dweight, None, None
