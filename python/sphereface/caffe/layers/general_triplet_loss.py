"""GeneralTripletLoss: triplet loss of distances to all classes.

Source: general_triplet_loss_layer.cpp of NormFace's Caffe fork ("C-triplet"). As there the label's
distance gets the gradient positive_weight / M, however many classes are too near: the number of
them does not count. What differs: labels are checked; a hardest class at the distance 0 has its
gradient too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import DistanceLoss
from sphereface.caffe.registry import register_layer

__all__ = ["GeneralTripletLoss"]


@register_layer("GeneralTripletLoss", param="general_triplet_loss_param")
class GeneralTripletLoss(DistanceLoss):
    """Loss ``negative_weight sum_ij t_ij / M`` of distances d (M, classes).

    ``t_ij = max(0, d_(i label) + margin - d_ij)`` for the other classes; with ``hardest_only`` only
    the largest of each row. Where t is positive, d_ij has the gradient -negative_weight / M; the
    label's distance positive_weight / M, with ``add_center_loss: false`` only if some t of its row
    is positive. With ``positive_first`` a row whose distance to the label is above
    ``positive_upper_bound`` has no t, and the gradient of that distance. Bottoms: the distances;
    labels, one a row. Second top, shape (2,): the mean distance to the label and to the others.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        super().setup(bottom_shapes)
        self.margin = self.options.margin
        self.add_center_loss = self.options.add_center_loss
        self.hardest_only = self.options.hardest_only
        self.positive_weight = self.options.positive_weight
        self.negative_weight = self.options.negative_weight
        self.upper_bound: float | None = None
        if self.options.positive_first:
            self.upper_bound = self.options.positive_upper_bound

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and the mean distances where the file asks for them."""
        distances, column = self.rows_and_labels(x, label)
        rows, classes = distances.shape
        own = distances.gather(1, column)
        triplets = (own + self.margin - distances).detach().relu().scatter(1, column, 0)
        if self.hardest_only:
            hardest = triplets.argmax(1, keepdim=True)
            triplets = torch.zeros_like(triplets).scatter(1, hardest, triplets.gather(1, hardest))
        far: Tensor | bool = False
        if self.upper_bound is not None:
            far = own.detach() > self.upper_bound
            triplets = triplets * ~far
        near = (triplets > 0).to(distances.dtype)
        pulled = near.amax(1, keepdim=True).bool() | far
        if self.add_center_loss:
            pulled = torch.ones_like(pulled)
        pulled = self.positive_weight * pulled
        loss = triplets.sum() * self.negative_weight / rows
        # Has the gradient of Caffe's backward; its value is taken away.
        slope = ((pulled * own).sum() - self.negative_weight * (near * distances).sum()) / rows
        loss = loss + slope - slope.detach()
        if self.top_count == 1:
            return loss
        others = (distances.sum() - own.sum()) / (rows * (classes - 1))
        return loss, torch.stack([own.sum() / rows, others]).detach()
