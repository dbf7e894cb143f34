"""FocalLoss: the softmax's cross entropy, less of it for labels that are predicted well.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, over a softmax as in
focal_loss_layer.cpp of zimenglan-sysu-512/Focal-Loss, which ArcFace-caffe uses; ONEADDP is
AM-Softmax's fork's. What differs: type LINEAR, which no fork computes, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.softmax_loss import SoftmaxWithLoss
from sphereface.caffe.registry import register_layer

__all__ = ["FocalLoss", "focal_losses"]


def focal_losses(losses: Tensor, log_prob: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return ``alpha (1 - p)^gamma`` times the `losses` of labels of these log p."""
    rest = -torch.expm1(log_prob)
    # A power of 0 may have no derivative; the loss there is 0, whatever moves.
    certain = rest <= 0
    kept = torch.where(certain, 1, rest) ** gamma
    return alpha * losses * kept.where(~certain, float(gamma == 0))


@register_layer("FocalLoss", param="focal_loss_param")
class FocalLoss(SoftmaxWithLoss):
    """Loss ``-sum alpha (1 - p)^gamma log p / normaliser`` of the label's probability p.

    Type ONEADDP: ``-sum (alpha + p)^gamma log p / normaliser``. Bottoms, tops, axis and
    ``loss_param`` are those of SoftmaxWithLoss.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read alpha, gamma and the type."""
        super().setup(bottom_shapes)
        self.form = self.option_name("type")
        if self.form == "LINEAR":
            raise self.error("type: LINEAR", expected="ORIGIN or ONEADDP")
        self.alpha, self.gamma = self.options.alpha, self.options.gamma
        if self.alpha <= 0 or self.gamma < 0:
            raise self.error(
                f"alpha {self.alpha:g}, gamma {self.gamma:g}",
                expected="alpha above 0, gamma at least 0",
            )

    def label_losses(self, log_prob: Tensor) -> Tensor:
        """Return the loss of each label's logarithm of its probability."""
        losses = super().label_losses(log_prob)
        if self.form == "ONEADDP":
            return losses * (self.alpha + log_prob.exp()) ** self.gamma
        return focal_losses(losses, log_prob, self.alpha, self.gamma)
