"""The angular triplet loss: A-Softmax logits with another backward.

Source: margin_inner_product_layer of a fork of SphereFace's Caffe, its options ``triplet`` and
``semihard``. What differs: of several rows that are drawn for one class the last one is written.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.ops.margin_inner_product import margin_logits, normalize_rows_

__all__ = ["angular_triplet_logits"]


def angular_triplet_logits(
    x: Tensor,
    weight: Tensor,
    label: Tensor,
    lambda_: Tensor | float,
    margin: float | str = 4,
    *,
    triplet: bool = False,
    semihard: bool = False,
    ignore_index: int | None = None,
    products: torch.dtype | str | None = None,
) -> Tensor:
    """Return the logits of `margin_inner_product` with the fork's backward.

    Parameters
    ----------
    x, weight, label, lambda_, margin, ignore_index, products
        As `sphereface.margin_inner_product` with ``gradient="caffe"``; `weight` is a leaf, whose
        rows are normalised in place.
    triplet : bool
        The weight gets no gradient. In the backward each row of x, with probability 1/2, is written
        into the row of the weight that is its label's, to be normalised by the next forward.
    semihard : bool
        x gets no gradient where the label has the largest logit already (easy), or, for margin > 1,
        where it has not the largest one without the margin (hard).

    Returns
    -------
    Tensor of shape (M, N)

    Raises
    ------
    SphereFaceError, NonFiniteError, RuntimeError
        As `sphereface.margin_inner_product`.
    """
    normalize_rows_(weight)
    choice = _Choice(weight, label, ignore_index)
    rows, classes = _OtherBackward.apply(x, weight, choice, triplet)
    logits = margin_logits(
        rows, classes, label, lambda_, margin, "caffe", ignore_index, None, products, unit_rows=True
    )
    if semihard:
        choice.keeps_row = _semihard(x, weight, label, logits.detach(), margin)
    return logits


@torch.no_grad()
def _semihard(
    x: Tensor, weight: Tensor, label: Tensor, logits: Tensor, margin: float | str
) -> Tensor:
    hard_enough = logits.argmax(1) != label
    return hard_enough if margin == 1 else hard_enough & ((x @ weight.T).argmax(1) == label)


class _Choice:
    """What the backward needs; which rows of x get a gradient is known after the forward."""

    def __init__(self, weight: Tensor, label: Tensor, ignore_index: int | None) -> None:
        self.weight, self.label, self.ignore_index = weight, label.long(), ignore_index
        self.keeps_row: Tensor | None = None


class _OtherBackward(torch.autograd.Function):
    """x and weight as they are."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, choice: _Choice, triplet: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        ctx.choice, ctx.triplet = choice, triplet
        return x.view_as(x), weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, dx: Tensor, dweight: Tensor) -> tuple[Tensor, Tensor, None, None]:
        choice = ctx.choice
        if choice.keeps_row is not None:
            dx = dx * choice.keeps_row[:, None]
        if ctx.triplet:
            _write_rows(ctx.saved_tensors[0], choice)
            dweight = torch.zeros_like(dweight)
        return dx, dweight, None, None


@torch.no_grad()
def _write_rows(x: Tensor, choice: _Choice) -> None:
    label, weight = choice.label, choice.weight
    drawn = torch.rand(len(label), device=x.device) >= 0.5
    drawn &= (label >= 0) & (label < len(weight))
    if choice.ignore_index is not None:
        drawn &= label != choice.ignore_index
    order = torch.arange(1, len(label) + 1, device=x.device).where(drawn, 0)
    # The last drawn row of each class, from 1; 0 for none.
    last = torch.zeros(len(weight), dtype=torch.int64, device=x.device)
    last.scatter_reduce_(0, label.where(drawn, 0), order, "amax")
    weight.copy_(x.to(weight.dtype)[last - 1].where((last > 0)[:, None], weight))
