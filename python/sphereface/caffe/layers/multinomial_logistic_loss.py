"""MultinomialLogisticLoss: minus the log of the label's probability.

Source: Caffe's multinomial_logistic_loss_layer.cpp. Probabilities below 1e-20 count as 1e-20 in the
value and in the gradient, -1 / (N p), which is therefore not zero there. Half-precision
probabilities are computed in float32, which can hold 1e-20. What differs: nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["MultinomialLogisticLoss"]

_THRESHOLD = 1e-20


@register_layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """-1 / N sum log p[label]; bottoms: probabilities (N, classes), labels, one a sample."""

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels."""
        label_shape = bottom_shapes[1]
        if prod(label_shape[1:]) != 1:
            raise self.error(f"labels of shape {label_shape}", expected="one label a sample")
        return super().reshape(bottom_shapes)

    def forward(self, prob: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        rows = prob.reshape(prob.shape[0], -1)
        rows = rows.to(torch.promote_types(prob.dtype, torch.float32))
        labels = label.reshape(-1, 1).long()
        self.check_labels(labels, rows.shape[1])
        own = rows.gather(1, labels)
        clamped = own.detach().clamp(min=_THRESHOLD)
        # The second term is zero; its gradient is that of the logarithm at the clamped value.
        losses = -clamped.log() - (own - own.detach()) / clamped
        return losses.sum() / prob.shape[0]
