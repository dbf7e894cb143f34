"""What a loss over split classes is, besides its tensors. Source: none."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sphereface.class_range import ClassRange
from sphereface.distributed.ranks import Ranks
from sphereface.distributed.sampling import ClassSampler
from sphereface.margin_policy import MarginPolicy

__all__ = ["RowProblem"]


@dataclass(frozen=True)
class RowProblem:
    """What a forward computes besides its tensors; the same on every process but for `classes`.

    Attributes
    ----------
    classes : ClassRange
        Of which the weight has the rows.
    ranks : Ranks
        The processes that have the others.
    margin : MarginPolicy
        Of the softmax members of the family.
    exact : bool
        The kind of gradient.
    in_place : bool
        Normalise the rows of the weight that take part, in place, before.
    ignore_index : int, optional
        Rows of this label have loss and gradient 0.
    label_smoothing : float
        0 to 1.
    memory : {"fast", "lean"} or int, optional
        Of this process's share of the logits, as in `sphereface.margin_softmax_loss`.
    products : torch.dtype, optional
        To which rows and weight are rounded for the products; the rows are sent in it.
    equal_batches : bool
        Every process has as many rows, so that they need not tell.
    sampler : ClassSampler, optional
        Draws the classes that take part.
    input_scale, loss_scale : float
        Factors on the gradient of x, and on all gradients.
    want_stats : bool
        Compute the classes with the largest logits, too.
    """

    classes: ClassRange
    ranks: Ranks
    margin: MarginPolicy
    exact: bool
    in_place: bool
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    memory: str | int | None = None
    products: torch.dtype | None = None
    equal_batches: bool = False
    sampler: ClassSampler | None = None
    input_scale: float = 1.0
    loss_scale: float = 1.0
    want_stats: bool = False
