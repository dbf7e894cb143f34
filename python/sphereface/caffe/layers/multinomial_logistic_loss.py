"""MultinomialLogisticLoss: minus the log of the label's probability.

Source: Caffe's multinomial_logistic_loss_layer.cpp. Probabilities below 1e-20 count as 1e-20 in the
value and in the gradient, -1 / (N p), which is therefore not zero there. Half-precision
probabilities are computed in float32, which can hold 1e-20. What differs: nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sphereface.caffe.loss_layer import ScoreLoss
from sphereface.caffe.registry import register_layer

__all__ = ["MultinomialLogisticLoss"]

_THRESHOLD = 1e-20


@register_layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(ScoreLoss):
    """-1 / N sum log p[label]; bottoms: probabilities (N, classes), labels, one a sample."""

    def forward(self, prob: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        rows, column = self.rows_and_labels(prob, label)
        own = rows.gather(1, column).to(torch.promote_types(prob.dtype, torch.float32))
        clamped = own.detach().clamp(min=_THRESHOLD)
        # The second term is zero; its gradient is that of the logarithm at the clamped value.
        losses = -clamped.log() - (own - own.detach()) / clamped
        return losses.sum() / prob.shape[0]
