"""GeneralContrastiveLoss: contrastive loss of distances to all classes.

Source: general_contrastive_loss_layer.cpp of NormFace's Caffe fork ("C-contrastive"), without its
later options. What differs: labels are checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import DistanceLoss
from sphereface.caffe.registry import register_layer

__all__ = ["GeneralContrastiveLoss"]


@register_layer("GeneralContrastiveLoss", param="general_contrastive_loss_param")
class GeneralContrastiveLoss(DistanceLoss):
    """Loss ``sum_i (p_i + negative_weight sum_j n_ij) / M`` of distances d (M, classes).

    ``p_i = max(0, d_(i label) - positive_margin)``; ``n_ij = max(0, negative_margin - d_ij)`` for
    the other classes. Bottoms: the distances; labels, one a row. Second top, shape (2,): the mean
    of p and the mean of n.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read margins and weight."""
        super().setup(bottom_shapes)
        self.positive_margin = self.options.positive_margin
        self.negative_margin = self.options.negative_margin
        self.negative_weight = self.options.negative_weight

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and the means where the file asks for them."""
        distances, column = self.rows_and_labels(x, label)
        rows, classes = distances.shape
        positive = (distances.gather(1, column) - self.positive_margin).relu().sum() / rows
        apart = (self.negative_margin - distances).relu().scatter(1, column, 0)
        negative = apart.sum() / rows
        loss = positive + self.negative_weight * negative
        if self.top_count == 1:
            return loss
        return loss, torch.stack([positive, negative / (classes - 1)]).detach()
