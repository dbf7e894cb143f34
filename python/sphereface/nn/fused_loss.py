"""What the loss modules share: the options of the fused loss, its call, and logits without labels.

Source: none. What differs from `torch.nn.CrossEntropyLoss`: the class weights live here, so that
a module takes embeddings and not logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sphereface.errors import SphereFaceError
from sphereface.loss_options import named_loss_options
from sphereface.margin_policy import MarginPolicy
from sphereface.nn.margin_inner_product import note_rows
from sphereface.ops import margin_softmax_loss
from sphereface.ops.margin_softmax import MarginSoftmaxStats, plain_logits
from sphereface.ops.transforms import refuse_transforms

__all__ = ["FusedLoss", "learned_scale"]


class FusedLoss(nn.Module):
    """Base of modules with a weight (N, K), a `policy` and a loss over its logits.

    Attributes
    ----------
    reduction, label_smoothing, memory, products
        Of `sphereface.margin_softmax_loss`.
    class_weight : Tensor of shape (N,) or None
        Buffer, not saved: constant weight of each class.
    """

    weight: nn.Parameter
    gradient: str
    ignore_index: int | None
    class_weight: Tensor | None

    @property
    def policy(self) -> MarginPolicy:
        """The member of the family, with the parameters that it has here."""
        raise NotImplementedError

    def set_loss_options(self, options: Mapping[str, Any], binary: bool = False) -> None:
        """Take the options; the weight is there already.

        Raises
        ------
        SphereFaceError
            One is unknown or out of its range.
        """
        found = named_loss_options(options, len(self.weight), type(self).__name__, binary)
        self.reduction: str = found["reduction"]
        self.label_smoothing: float = found["label_smoothing"]
        self.memory: str | int | None = found["memory"]
        self.products: torch.dtype | str | None = found["products"]
        weights = found["class_weight"]
        if weights is not None:
            weights = weights.detach().clone().to(self.weight.device)
        self.register_buffer("class_weight", weights, persistent=False)

    def refuse_transforms(self, *tensors: Tensor) -> None:
        """Refuse torch.func's transforms and forward mode by this module's name.

        Raises
        ------
        RuntimeError
            One of the tensors or of the parameters is in one.
        """
        refuse_transforms(type(self).__name__, *tensors, *self.parameters())

    def loss_of(
        self,
        rows: Tensor,
        label: Tensor,
        lambda_: Tensor | None = None,
        *,
        return_stats: bool = False,
    ) -> Tensor | tuple[Tensor, MarginSoftmaxStats]:
        """Return the loss of rows (M, K) and labels (M,), and note what it has seen of them."""
        loss, stats = margin_softmax_loss(
            rows,
            self.weight,
            label,
            lambda_,
            self.policy,
            self.gradient if self.training else "exact",
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
            self.class_weight,
            self.memory,
            return_stats=True,
            products=self.products,
        )
        note_rows(self, rows, stats.cosine)
        return (loss, stats) if return_stats else loss

    def logits_without_label(self, rows: Tensor) -> Tensor:
        """Return the logits (M, N) of rows (M, K) without a margin; nothing is changed.

        Raises
        ------
        SphereFaceError
            The module trains, which takes labels.
        """
        if self.training:
            raise SphereFaceError(
                "no label in training mode",
                where=type(self).__name__,
                expected="x and label",
                fix="after eval() it gives logits without a margin",
            )
        return plain_logits(rows, self.weight, self.policy)

    def options_repr(self) -> str:
        """Return the options that are not the defaults, for ``repr``."""
        shown = []
        if not self.policy.is_exact("caffe"):  # the others have one gradient
            shown.append(f"gradient={self.gradient!r}")
        if self.ignore_index is not None:
            shown.append(f"ignore_index={self.ignore_index}")
        if self.reduction != "mean":
            shown.append(f"reduction={self.reduction!r}")
        if self.label_smoothing:
            shown.append(f"label_smoothing={self.label_smoothing:g}")
        if self.class_weight is not None:
            shown.append("class_weight=...")
        if self.memory is not None:
            shown.append(f"memory={self.memory!r}")
        if self.products is not None:
            shown.append(f"products={self.products}")
        return "".join(f", {option}" for option in shown)


def learned_scale(policy: MarginPolicy, device: torch.device | str | None) -> nn.Parameter:
    """Return a parameter for the policy's scale, not filled yet.

    Raises
    ------
    SphereFaceError
        The policy has no number as its scale to start from, or its loss is divided by the scale.
    """
    where = type(policy).__name__
    if policy.binary:
        raise SphereFaceError(
            "learn_scale",
            where=where,
            expected="a fixed scale: the loss is divided by it, too, and would learn to be small",
        )
    if not isinstance(policy.scale, (int, float)):
        raise SphereFaceError(
            f"learn_scale with scale {policy.scale!r}",
            where=where,
            expected="a number as the scale, to start from",
        )
    return nn.Parameter(torch.empty((), dtype=torch.float32, device=device))
