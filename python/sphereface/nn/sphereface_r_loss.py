"""SphereFace-R: the multiplicative margin for any real m, with its gradient detached.

Source: Liu et al., "SphereFace Revived", TPAMI 2022, and its authors' port to PyTorch. What
differs: the loss is not multiplied by the port's ``lw / s`` (a learning rate does the same), and
its other two angular functions (v1, v2) are not here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.errors import SphereFaceError
from sphereface.margin_policy import SphereFaceR
from sphereface.nn.margin_loss import MarginLoss
from sphereface.ops.margin_softmax import MarginSoftmaxStats

__all__ = ["SphereFaceRLoss"]

_FEATURE_NORMS = ("hard", "soft", "none")


class SphereFaceRLoss(MarginLoss):
    r"""Cross entropy over s (cos theta + d), d = psi(theta) - cos theta a constant, on the label.

    psi(theta) = (-1)^k cos(m theta) - 2k with k = floor(m theta / pi). Leaving d out of the
    gradient is the paper's characteristic gradient detachment.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    margin : float
        m >= 1.
    scale : float
        s.
    feature_norm : {"hard", "soft", "none"}
        ``"hard"`` sets x to length s. The other two take \|x\| for s; ``"soft"`` adds
        ``soft_weight | |x| - s |`` to the loss of a row.
    soft_weight : float
        >= 0. The port's t = 0.01 with its factors lw = 50 and s = 30 is 0.006 here.
    gradient : {"caffe", "exact"}
        ``"caffe"``, the port's: the rows of the weight are normalised in place, outside of the
        gradient. ``"exact"``: the gradient goes through the normalisation.
    **keywords
        As `MarginLoss` from `learn_scale` on.

    Raises
    ------
    SphereFaceError
        An option is out of its range.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 1.5,
        scale: float = 30.0,
        feature_norm: str = "hard",
        soft_weight: float = 0.006,
        gradient: str = "caffe",
        **keywords: Any,
    ) -> None:
        if feature_norm not in _FEATURE_NORMS or not soft_weight >= 0:
            raise SphereFaceError(
                f"feature_norm is {feature_norm!r}, soft_weight {soft_weight!r}",
                where="SphereFaceRLoss",
                expected='"hard", "soft" or "none", and a number >= 0',
            )
        policy = SphereFaceR(margin, scale)
        if feature_norm != "hard":
            policy = SphereFaceR(margin, None)
        super().__init__(in_features, num_classes, policy, gradient=gradient, **keywords)
        self.feature_norm, self.soft_weight, self.length = feature_norm, soft_weight, scale

    def forward(
        self, x: Tensor, label: Tensor | None = None, return_stats: bool = False
    ) -> Tensor | tuple[Tensor, MarginSoftmaxStats]:
        """Return the loss of embeddings (M, K) and labels (M,), of shape () or, unreduced, (M,).

        With `return_stats` also what it has seen of the rows, as `MarginLoss`. Without a label, in
        evaluation mode, the logits (M, N) without a margin.

        Raises
        ------
        SphereFaceError, RuntimeError
            See `sphereface.margin_softmax_loss`; no label in training mode.
        """
        if self.feature_norm != "soft" or label is None:
            return super().forward(x, label, return_stats)
        result = super().forward(x, label, return_stats=True)
        assert isinstance(result, tuple)
        loss = result[0] + self._penalty(x, label, result[0].dtype)
        return (loss, result[1]) if return_stats else loss

    def _penalty(self, x: Tensor, label: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what the lengths add to the loss."""
        norm = torch.linalg.vector_norm(x, dim=1, dtype=dtype)
        penalty = self.soft_weight * (norm - self.length).abs()
        counts = torch.ones_like(penalty)
        if self.ignore_index is not None:
            counts = (label != self.ignore_index).to(penalty.dtype)
        if self.reduction == "none":
            return penalty * counts
        total = (penalty * counts).sum()
        return total if self.reduction == "sum" else total / counts.sum()

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        soft = f", soft_weight={self.soft_weight:g}" if self.feature_norm == "soft" else ""
        return f"{super().extra_repr()}, feature_norm={self.feature_norm!r}{soft}"
