"""What angular triplet training changes in the backward of A-Softmax: the weight's rows and dx.

Source: margin_inner_product_layer of the Caffe fork of angular triplet loss (options ``triplet``
and ``semihard``). What differs: of several samples of one class that write its row, the last does,
as there, and the random choice is torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["semihard_rows", "write_rows"]

_CHOICES, _WRITES_ABOVE = 10, 4


def write_rows(x: Tensor, weight: Tensor, label: Tensor) -> Tensor:
    """Return x; a backward through it writes half of its rows into the weight.

    Parameters
    ----------
    x : Tensor of shape (M, K)
        Each row, with probability 1/2, replaces that of its label.
    weight : Tensor of shape (N, K)
        Changed after its gradient, which gets zeros from here, has been used.
    label : Tensor of shape (M,), int64

    Returns
    -------
    Tensor of shape (M, K)
    """
    return _WriteRows.apply(x, weight, label)


def semihard_rows(logits: Tensor, x: Tensor, weight: Tensor, label: Tensor, margin: int) -> Tensor:
    """Return which samples keep their dx, as booleans (M,).

    Not those whose label has the largest of the `logits` (M, N) already, nor, with a margin, those
    whose label has not the largest of x . w either, the weight's rows having the norm 1.
    """
    with torch.no_grad():
        column = label[:, None]
        kept = logits.argmax(1) != label
        if margin > 1:
            own = (x * weight[label].to(x.dtype)).sum(1, keepdim=True)
            kept &= logits.scatter(1, column, own).argmax(1) == label
    return kept


class _WriteRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, label: Tensor) -> Tensor:
        ctx.save_for_backward(x, label)
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, label = ctx.saved_tensors
        chosen = torch.randint(_CHOICES, (len(x),)) > _WRITES_ABOVE
        # Of equal labels the last one writes; a dict keeps the last value of a key.
        last = {int(label[row]): row for row in chosen.nonzero()[:, 0].tolist()}
        if last:
            rows = torch.tensor(list(last), device=x.device)
            written = x[torch.tensor(list(last.values()), device=x.device)]
            ctx.weight.data[rows] = written.to(ctx.weight.dtype)
        return grad, torch.zeros_like(ctx.weight), None
