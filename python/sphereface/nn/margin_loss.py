"""Softmax losses of the margin family as modules: class weights and `margin_softmax_loss`.

Source: the papers named in `sphereface.margin_policy`. What differs from their code: the logits
need not be stored, and the gradient goes through the margin and both normalisations (the code of
ArcFace's authors for many classes takes the margin's slope as 1).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from sphereface.errors import SphereFaceError
from sphereface.margin_policy import (
    COCO,
    ArcFace,
    CombinedMargin,
    CosFace,
    L2Softmax,
    MarginPolicy,
    NormFace,
    policy_of,
)
from sphereface.nn.fused_loss import FusedLoss, learned_scale
from sphereface.nn.margin_inner_product import check_integer
from sphereface.ops.labels import check_rows, check_tensors
from sphereface.ops.margin_softmax import MarginSoftmaxStats

__all__ = [
    "ArcFaceLoss",
    "COCOLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "L2SoftmaxLoss",
    "MarginLoss",
    "NormFaceLoss",
]


class MarginLoss(FusedLoss):
    """Cross entropy over the logits of a member of the family, without its logits.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    policy : MarginPolicy
        The member.
    learn_scale : bool
        Make the policy's scale a parameter that starts there. Not with SphereFace2.
    bias : Tensor of shape () or (N,), optional
        Where a learned bias starts, of the members that have one.
    gradient : {"caffe", "exact"}
        As `sphereface.margin_softmax_loss`.
    ignore_index : int, optional
        Rows with this label count for nothing.
    device, dtype
        Of the weight.
    reduction, label_smoothing, class_weight, memory, products
        As `sphereface.margin_softmax_loss`.

    Attributes
    ----------
    weight : Parameter of shape (N, K)
        One row a class, filled uniformly in +-sqrt(3 / K).
    scale : Parameter of shape (), float32, or None
        With `learn_scale`.
    bias : Parameter or None
        Of the members that have one.
    target_cosine, x_norm : Tensor of shape (), float32
        Buffers, not saved: the mean cosine between the rows of the last forward and the weights of
        their labels (NaN if none has a label), and the mean length of the rows. Both are 0 before.

    Raises
    ------
    SphereFaceError
        An option is out of its range.
    """

    scale: nn.Parameter | None
    bias: nn.Parameter | None
    target_cosine: Tensor
    x_norm: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        policy: MarginPolicy,
        *,
        learn_scale: bool = False,
        bias: Tensor | None = None,
        gradient: str = "caffe",
        ignore_index: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **loss_options: Any,
    ) -> None:
        super().__init__()
        self.in_features = check_integer("in_features", in_features, 1)
        self.num_classes = check_integer("num_classes", num_classes, 1)
        policy = policy_of(policy, type(self).__name__)
        policy.is_exact(gradient)  # refuses what it is not
        self._policy, self.gradient, self.ignore_index = policy, gradient, ignore_index
        self.weight = nn.Parameter(
            torch.empty(self.num_classes, self.in_features, device=device, dtype=dtype)
        )
        self.set_loss_options(loss_options, policy.binary)
        self.scale = learned_scale(policy, device) if learn_scale else None
        if bias is not None and all(field.name != "bias" for field in _fields(policy)):
            raise SphereFaceError(
                "bias", where=type(policy).__name__, expected="none: the member has none"
            )
        self._first_bias = bias
        self.bias = None
        if bias is not None:
            self.bias = nn.Parameter(self.weight.detach().new_empty(bias.shape))
        for name in ("target_cosine", "x_norm"):
            seen = torch.zeros((), dtype=torch.float32, device=device)
            self.register_buffer(name, seen, persistent=False)
        self.reset_parameters()

    @property
    def policy(self) -> MarginPolicy:
        """The member, with the parameters that it has here."""
        learned = {"scale": self.scale, "bias": self.bias}
        changes = {name: value for name, value in learned.items() if value is not None}
        return dataclasses.replace(self._policy, **changes) if changes else self._policy  # type: ignore[type-var]

    def reset_parameters(self) -> None:
        """Fill the weight in +-sqrt(3 / in_features); the scale and the bias begin again."""
        bound = math.sqrt(3 / self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.scale is not None:
            nn.init.constant_(self.scale, float(self._policy.scale))  # type: ignore[arg-type]
        if self.bias is not None and self._first_bias is not None:
            with torch.no_grad():
                self.bias.copy_(self._first_bias)

    def forward(
        self, x: Tensor, label: Tensor | None = None, return_stats: bool = False
    ) -> Tensor | tuple[Tensor, MarginSoftmaxStats]:
        """Return the loss of embeddings (M, K) and labels (M,), of shape () or, unreduced, (M,).

        With `return_stats` also what it has seen of the rows: the labels' probabilities, the
        classes with the largest logits with and without the margin, the cosines.

        In evaluation mode the weight is not normalised in place; without a label, it returns the
        logits (M, N) without a margin.

        Raises
        ------
        SphereFaceError, RuntimeError
            See `sphereface.margin_softmax_loss`; no label in training mode.
        """
        check_tensors(type(self).__name__, x=x)
        self.refuse_transforms(x)
        check_rows(type(self).__name__, x, self.in_features)
        if label is None:
            return self.logits_without_label(x)
        return self.loss_of(x, label, return_stats=return_stats)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        learned = ", learn_scale=True" if self.scale is not None else ""
        return (
            f"in_features={self.in_features}, num_classes={self.num_classes}, "
            f"{self._policy}{learned}{self.options_repr()}"
        )


def _fields(policy: MarginPolicy) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(policy)  # type: ignore[arg-type]


class CombinedMarginLoss(MarginLoss):
    """Cross entropy over s (cos(m1 theta + m2) - m3), x and W normalised: the combined margin.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    m1, m2, m3, scale, easy
        As `sphereface.margin_policy.CombinedMargin`.
    **keywords
        As `MarginLoss` from `learn_scale` on.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        m1: float = 1.0,
        m2: float = 0.0,
        m3: float = 0.0,
        scale: float = 64.0,
        easy: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(
            in_features, num_classes, CombinedMargin(m1, m2, m3, scale, easy), **keywords
        )


class CosFaceLoss(MarginLoss):
    """CosFace and AM-Softmax: s (cos theta - margin) for the label.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    margin, scale : float
        The papers' are 0.35 with s = 64 (CosFace) and 0.35 with s = 30 (AM-Softmax).
    **keywords
        As `MarginLoss` from `learn_scale` on.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.35,
        scale: float = 64.0,
        **keywords: Any,
    ) -> None:
        super().__init__(in_features, num_classes, CosFace(margin, scale), **keywords)


class ArcFaceLoss(MarginLoss):
    """ArcFace: s cos(theta + margin) for the label.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    margin, scale : float
        The paper's are 0.5 (radians) and 64.
    easy : bool
        The easy margin: labels above 90 degrees have none.
    **keywords
        As `MarginLoss` from `learn_scale` on.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.5,
        scale: float = 64.0,
        easy: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(in_features, num_classes, ArcFace(margin, scale, easy), **keywords)


class NormFaceLoss(MarginLoss):
    """NormFace: s cos theta, without a margin.

    With ``learn_scale=True`` it is also the von Mises-Fisher mixture loss (vMFML), whose
    concentration kappa is the learned s.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    scale : float
        s; the paper's is 20 to 40.
    **keywords
        As `MarginLoss` from `learn_scale` on.
    """

    def __init__(
        self, in_features: int, num_classes: int, scale: float = 20.0, **keywords: Any
    ) -> None:
        super().__init__(in_features, num_classes, NormFace(scale), **keywords)


class COCOLoss(MarginLoss):
    """Congenerous cosine loss over class weights: s cos theta, as `NormFaceLoss`.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    scale : float
        s.
    **keywords
        As `MarginLoss` from `learn_scale` on.
    """

    def __init__(
        self, in_features: int, num_classes: int, scale: float = 30.0, **keywords: Any
    ) -> None:
        super().__init__(in_features, num_classes, COCO(scale), **keywords)


class L2SoftmaxLoss(MarginLoss):
    """L2-constrained softmax: w.x + b with x at length `scale`, W free.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    scale : float
        alpha. The paper's bound for a probability p of the label over N classes is
        ln(p (N - 2) / (1 - p)), 16 for p = 0.9 and a million classes.
    bias : bool
        Have a bias, of zeros.
    **keywords
        As `MarginLoss` from `learn_scale` on.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        scale: float = 16.0,
        bias: bool = True,
        **keywords: Any,
    ) -> None:
        classes = check_integer("num_classes", num_classes, 1)
        first = torch.zeros(classes) if bias else None
        super().__init__(in_features, classes, L2Softmax(scale), bias=first, **keywords)
