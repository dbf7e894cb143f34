"""SigmoidCrossEntropyLoss: logistic loss of scores against target probabilities.

Source: Caffe's sigmoid_cross_entropy_loss_layer.cpp. As there the default normalization is
BATCH_SIZE, not VALID, and targets are compared with ``ignore_label`` after truncation. What
differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["SigmoidCrossEntropyLoss"]


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
