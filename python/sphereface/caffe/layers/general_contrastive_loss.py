"""GeneralContrastiveLoss: contrastive loss of distances to all classes.

Source: general_contrastive_loss_layer.cpp of NormFace's Caffe fork ("C-contrastive"), whose
backward is not in all cases the derivative; see the class. What differs: labels are checked; the
largest n of a row of label 0 is looked for among the other classes only; the mean that
``add_intra_mae`` follows moves in TRAIN only and is saved in the state_dict; ``square``, which the
fork does not read, is refused.
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
    """Loss ``sum_i (positive_weight p_i + negative_weight sum_j n_ij) / M`` of distances d (M, N).

    ``p_i = max(0, d_(i label) - positive_margin)``, at most ``positive_outlier_thresh``;
    ``n_ij = max(0, negative_margin - d_ij)`` for the other classes, or with ``exp_negative_weight``
    ``exp(-d_ij)`` where that is positive. Bottoms: the distances; labels, one a row. Second top:
    the mean of p, that of max(0, negative_margin - d), and with ``add_intra_mae`` the running mean.

    ``max_positive_only`` keeps the p of one row, the smallest; ``max_negative_only`` one n a row,
    the largest. ``positive_first`` leaves out the n of rows whose distance to the label is above
    ``positive_upper_bound``. ``add_intra_mae`` adds to the margin of n the running mean of p (of
    decay 0.99, at most ``max_negative_margin``).

    The gradient of p is that of the hinge up to d = positive_outlier_thresh; under
    ``positive_first`` such rows' is positive_weight in any case. ``normalize_negative`` divides
    that of n by its sum over M and this number, where this is above positive_weight.
    """

    intra_mae: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read margins, weights and switches."""
        super().setup(bottom_shapes)
        options = self.options
        if options.square:
            raise self.error("square: true", expected="false; the fork does not compute it")
        self.positive_margin = options.positive_margin
        self.negative_margin = options.negative_margin
        self.positive_weight = options.positive_weight
        self.negative_weight = options.negative_weight
        self.outlier = options.positive_outlier_thresh
        self.gradient_norm: float | None = None
        if options.HasField("normalize_negative"):
            self.gradient_norm = options.normalize_negative
        self.max_negative_only = options.max_negative_only
        self.max_positive_only = options.max_positive_only
        self.upper_bound = options.positive_upper_bound if options.positive_first else None
        self.exponential = options.exp_negative_weight
        self.add_intra_mae = options.add_intra_mae
        self.max_negative_margin = options.max_negative_margin
        if self.add_intra_mae:
            self.register_buffer("intra_mae", torch.zeros(()))

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return a scalar's shape, and that of the means."""
        shapes = super().reshape(bottom_shapes)
        return [*shapes[:1], *[(2 + self.add_intra_mae,)] * (self.top_count - 1)]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and the means where the file asks for them."""
        distances, column = self.rows_and_labels(x, label)
        rows, classes = distances.shape
        margin = self.negative_margin + (self.intra_mae if self.add_intra_mae else 0)
        own, d = distances.gather(1, column), distances.detach()
        positive = (own.detach() - self.positive_margin).clamp(0, self.outlier)
        apart = (margin - d).relu().scatter(1, column, 0)
        negative = torch.where(apart > 0, (-d).exp(), 0) if self.exponential else apart
        pulled, pushed = self._counted(own.detach(), positive, negative)
        loss = self.positive_weight * (positive * pulled).sum()
        loss = (loss + self.negative_weight * (negative * pushed).sum()) / rows
        loss = loss + self._slope(distances, own, negative, pulled, pushed)
        positive_mean, negative_mean = positive.sum() / rows, apart.sum() / rows
        means = [positive_mean, negative_mean / (classes - 1)]
        if self.add_intra_mae:
            means.append(self._follow(positive_mean))
        return loss if self.top_count == 1 else (loss, torch.stack(means))

    def _counted(self, own: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 where a p (M, 1) and an n (M, N) count."""
        pulled, pushed = torch.ones_like(positive), (negative > 0).to(negative.dtype)
        if self.max_positive_only:
            pulled = torch.zeros_like(positive).scatter(0, positive.argmin(0, keepdim=True), 1)
        if self.max_negative_only:
            largest = negative.argmax(1, keepdim=True)
            pushed = torch.zeros_like(pushed).scatter(1, largest, pushed.gather(1, largest))
        if self.upper_bound is not None:
            pushed = pushed * (own <= self.upper_bound)
        return pulled, pushed

    def _slope(
        self, distances: Tensor, own: Tensor, negative: Tensor, pulled: Tensor, pushed: Tensor
    ) -> Tensor:
        """Return 0 with the gradient of Caffe's backward."""
        d, rows = own.detach(), len(own)
        pull = pulled * ((d > self.positive_margin) & (d < self.outlier))
        if self.upper_bound is not None:
            pull = torch.where(d > self.upper_bound, 1.0, pull)
        push = self.negative_weight * (pushed * negative if self.exponential else pushed)
        if self.gradient_norm is not None:
            total = push.sum().abs() / self.gradient_norm / rows
            push = torch.where(total > self.positive_weight, push / total, push)
        slope = (self.positive_weight * (pull * own).sum() - (push * distances).sum()) / rows
        return slope - slope.detach()

    def _follow(self, positive_mean: Tensor) -> Tensor:
        """Return the running mean of p, in training moved to this batch's."""
        moved = (0.99 * self.intra_mae + 0.01 * positive_mean).clamp(max=self.max_negative_margin)
        if self.training:
            self.intra_mae.copy_(moved)
        return moved
