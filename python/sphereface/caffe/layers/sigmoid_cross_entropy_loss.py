"""SigmoidCrossEntropyLoss: logistic loss of scores against target probabilities; balanced, too.

Source: Caffe's sigmoid_cross_entropy_loss_layer.cpp. As there the default normalization is
BATCH_SIZE, not VALID, and targets are compared with ``ignore_label`` after truncation. The balanced
form is that of OSVOS and COB, which HED's fork computes under the plain name (Xie and Tu, ICCV
2015, eq. 2). What differs: in it targets other than 0 and 1 get no gradient, and samples without
any target have no loss; the originals give an unweighted gradient, and not a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["SigmoidCrossEntropyBalanceLoss", "SigmoidCrossEntropyLoss"]


@register_layer("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """-sum (t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))) / normaliser.

    ``loss_param.normalization`` divides by FULL all values, VALID those not ignored, BATCH_SIZE
    (default) the samples, NONE 1. Targets get no gradient.
    """

    default_normalization = "BATCH_SIZE"

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of targets."""
        shape, target_shape = bottom_shapes
        if prod(shape) != prod(target_shape):
            raise self.error(
                f"targets of shape {target_shape} for scores of shape {shape}",
                expected="as many targets as scores",
            )
        return super().reshape(bottom_shapes)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        target = target.detach().reshape(x.shape).to(x.dtype)
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        valid = None
        if self.ignore_label is not None:
            valid = target.trunc() != self.ignore_label
            losses = losses.where(valid, 0)
        return losses.sum() / self.normalizer(x.shape[0], x.numel(), valid)


@register_layer("SigmoidCrossEntropyBalanceLoss")
class SigmoidCrossEntropyBalanceLoss(SigmoidCrossEntropyLoss):
    """Logistic losses of few positives and many negatives, over the samples.

    Of each sample the positives are weighted by the share of its negatives, and the negatives by
    the share of its positives; both are summed and divided by the number of samples. Targets are
    0 and 1, others do not count; they get no gradient.
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        rows = x.flatten(1)
        target = target.detach().reshape(rows.shape).to(x.dtype)
        losses = F.binary_cross_entropy_with_logits(rows, target, reduction="none")
        positive, negative = target == 1, target == 0
        counts = [part.sum(1, keepdim=True).to(x.dtype) for part in (positive, negative)]
        share = counts[0] / (counts[0] + counts[1]).clamp(min=1)
        weight = torch.where(positive, 1 - share, torch.where(negative, share, 0))
        return (weight * losses).sum() / len(x)
