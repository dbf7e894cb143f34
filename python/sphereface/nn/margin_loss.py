"""Losses of the margin family as modules: class weights and `sphereface.margin_softmax_loss`.

Source: the papers named in `sphereface.margin_policy`. What differs from their code: the logits
need not be stored, and the gradient goes through the margin and both normalisations (the code of
ArcFace's authors for many classes takes the margin's slope as 1).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sphereface.margin_policy import ArcFace, CombinedMargin, CosFace, NormFace
from sphereface.nn.margin_inner_product import MarginInnerProduct, check_integer
from sphereface.ops import margin_softmax_loss

__all__ = ["ASoftmaxLoss", "ArcFaceLoss", "CombinedMarginLoss", "CosFaceLoss", "NormFaceLoss"]


class ASoftmaxLoss(MarginInnerProduct):
    """Cross entropy over A-Softmax logits, as ``F.cross_entropy(head(x, label), label)``.

    The parameters, the counting of lambda and the state_dict are those of `MarginInnerProduct`, so
    the weights of either load into the other. In evaluation mode the gradient is the exact one.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    *options, **keywords
        As `MarginInnerProduct` from `margin` on.
    loss_options : dict, optional
        ``reduction``, ``label_smoothing``, ``class_weight`` and ``memory`` of
        `sphereface.margin_softmax_loss`.

    Examples
    --------
    >>> loss = ASoftmaxLoss(512, 10572, base=1000, gamma=0.12, lambda_min=5)
    >>> loss(torch.randn(4, 512), torch.tensor([0, 5, 7, 10571])).shape
    torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *options: Any,
        loss_options: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(in_features, num_classes, *options, **keywords)
        self.loss_options = dict(loss_options or {})

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings (..., K) and their labels, of shape () or, unreduced, (M,).

        Raises
        ------
        SphereFaceError, RuntimeError
            See `sphereface.margin_softmax_loss`.
        """
        rows, labels = self.samples(x, label)
        lambda_ = self.advance()
        loss = margin_softmax_loss(
            rows,
            self.weight,
            labels,
            lambda_,
            self.margin,
            self.gradient if self.training else "exact",
            self.ignore_index,
            **self.loss_options,
        )
        self.observe(rows, labels)
        assert isinstance(loss, Tensor)
        return loss


class CombinedMarginLoss(nn.Module):
    """Cross entropy over s (cos(m1 theta + m2) - m3), x and W normalised: the combined margin.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    m1, m2, m3, scale, easy
        As `sphereface.margin_policy.CombinedMargin`.
    ignore_index : int, optional
        Rows with this label count for nothing.
    device, dtype
        Of the weight.
    loss_options : dict, optional
        ``reduction``, ``label_smoothing``, ``class_weight`` and ``memory`` of
        `sphereface.margin_softmax_loss`.

    Attributes
    ----------
    weight : Parameter of shape (N, K)
        One row a class, filled uniformly in +-sqrt(3 / K); only its rows' directions matter.
    policy : CombinedMargin
        The margin.

    Raises
    ------
    SphereFaceError
        An option is out of its range.
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
        *,
        ignore_index: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        loss_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_integer("in_features", in_features, 1)
        self.num_classes = check_integer("num_classes", num_classes, 1)
        self.policy = CombinedMargin(m1, m2, m3, scale, easy)
        self.ignore_index = ignore_index
        self.loss_options = dict(loss_options or {})
        self.weight = nn.Parameter(
            torch.empty(self.num_classes, self.in_features, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight in +-sqrt(3 / in_features)."""
        bound = math.sqrt(3 / self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss of embeddings (M, K) and labels (M,), of shape () or, unreduced, (M,).

        Raises
        ------
        SphereFaceError, RuntimeError
            See `sphereface.margin_softmax_loss`.
        """
        loss = margin_softmax_loss(
            x,
            self.weight,
            label,
            margin=self.policy,
            ignore_index=self.ignore_index,
            **self.loss_options,
        )
        assert isinstance(loss, Tensor)
        return loss

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}, {self.policy}"


class CosFaceLoss(CombinedMarginLoss):
    """CosFace and AM-Softmax: s (cos theta - margin) for the label.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    margin, scale : float
        The papers' are 0.35 with s = 64 (CosFace) and 0.35 with s = 30 (AM-Softmax).
    **keywords
        As `CombinedMarginLoss` from `ignore_index` on.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.35,
        scale: float = 64.0,
        **keywords: Any,
    ) -> None:
        super().__init__(in_features, num_classes, *_fields(CosFace(margin, scale)), **keywords)


class ArcFaceLoss(CombinedMarginLoss):
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
        As `CombinedMarginLoss` from `ignore_index` on.
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
        policy = ArcFace(margin, scale, easy)
        super().__init__(in_features, num_classes, *_fields(policy), **keywords)


class NormFaceLoss(CombinedMarginLoss):
    """NormFace: s cos theta, without a margin.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    scale : float
        s; the paper's is 20 to 40.
    **keywords
        As `CombinedMarginLoss` from `ignore_index` on.
    """

    def __init__(
        self, in_features: int, num_classes: int, scale: float = 20.0, **keywords: Any
    ) -> None:
        super().__init__(in_features, num_classes, *_fields(NormFace(scale)), **keywords)


def _fields(policy: CombinedMargin) -> tuple[float, float, float, float, bool]:
    return policy.m1, policy.m2, policy.m3, policy.scale, policy.easy
