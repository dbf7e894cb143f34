"""SoftmaxWithLoss: the multinomial logistic loss of the softmax of the bottom.

Source: Caffe's softmax_loss_layer.cpp; weights of classes are SegNet's. The value of one label is
capped at -ln(FLT_MIN) = 87.3365 as there, with the gradient of the uncapped loss (probability minus
one at the label). SoftmaxWithLossOHEM is R-FCN's (Dai et al., NIPS 2016). What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.indices import counted_labels
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.pending_logits import PendingLogits, PendingProduct
from sphereface.caffe.registry import register_layer

__all__ = ["SoftmaxWithLoss", "SoftmaxWithLossOHEM"]

_LARGEST_LOSS = -log(torch.finfo(torch.float32).tiny)


@register_layer("SoftmaxWithLoss", param="softmax_param")
class SoftmaxWithLoss(LossLayer):
    """Loss ``-sum log softmax(x)[label] / normaliser``, a scalar; second top: the softmax.

    Bottoms: x (outer..., classes, inner...) with the classes on ``softmax_param.axis``; labels,
    outer * inner of them with x's first size. ``loss_param``: ``ignore_label`` rows count nowhere;
    ``normalization`` divides by FULL outer * inner, VALID (default) the labels not ignored, at
    least 1, BATCH_SIZE outer, NONE 1. ``weight_by_label_freqs`` multiplies the loss of a label by
    its class's ``class_weighting``, or divides it by how often it is in the batch where none is
    given.
    """

    tops = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis, ignore_label and normalization."""
        super().setup(bottom_shapes)
        softmax, shape = self.layer_param.softmax_param, bottom_shapes[0]
        self.softmax_axis = self.canonical_axis(softmax.axis, shape)
        if softmax.normalize_type != "Softmax":
            raise self.error(f'normalize_type "{softmax.normalize_type}"', expected='"Softmax"')
        loss = self.layer_param.loss_param
        self.weighted: bool = loss.weight_by_label_freqs
        self.class_weighting = torch.tensor(list(loss.class_weighting))
        if self.weighted and len(self.class_weighting) not in (0, shape[self.softmax_axis]):
            raise self.error(
                f"{len(self.class_weighting)} class_weighting",
                expected=f"one for each of {shape[self.softmax_axis]} classes, or none",
            )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels and return a scalar's shape (and the softmax's)."""
        shape, label_shape = bottom_shapes
        rows = shape[: self.softmax_axis] + shape[self.softmax_axis + 1 :]
        if prod(rows) != prod(label_shape):
            raise self.error(
                f"{prod(label_shape)} labels (shape {label_shape}) for predictions of shape {shape}"
                f" with softmax axis {self.softmax_axis}",
                expected=f"{prod(rows)} labels, outer * inner of the predictions",
            )
        return [*super().reshape(bottom_shapes), shape][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and the tops after it that the file asks for."""
        log_prob = F.log_softmax(x, self.softmax_axis)
        rows = log_prob.movedim(self.softmax_axis, -1).flatten(0, -2)  # (outer * inner, classes)
        labels, valid = counted_labels(self, label, rows.shape[1], self.ignore_label)
        losses = self.label_losses(rows.gather(1, labels[:, None])[:, 0])
        if self.weighted:
            losses = losses * self._weights(labels, valid, rows)
        loss = self._mean(losses, valid, prod(x.shape[: self.softmax_axis]))
        if self.top_count == 1:
            return loss
        if self.top_count == 2:
            return loss, log_prob.exp()
        each = losses if valid is None else losses.where(valid, 0)
        return loss, log_prob.exp(), each.detach().reshape(label.shape)

    @property
    def takes_pending(self) -> bool:
        """Whether `of_pending` has the same loss: this layer's own, unweighted, as its only top."""
        return type(self) is SoftmaxWithLoss and not self.weighted and self.top_count == 1

    def of_pending(self, logits: PendingLogits | PendingProduct, label: Tensor) -> Tensor:
        """Return the loss of logits whose layer left them to it (`sphereface.caffe.fused_loss`)."""
        labels, valid = counted_labels(self, label, logits.classes, self.ignore_label)
        if valid is not None and self.ignore_label is not None:
            labels = labels.where(valid, self.ignore_label)
        # The classes are on the last axis: every row is a sample.
        return self.total(logits.losses(labels, self.ignore_label), valid, labels.numel())

    def total(self, losses: Tensor, valid: Tensor | None, outer: int) -> Tensor:
        """Return the loss of all labels, from the cross entropy of each."""
        return self._mean(SoftmaxWithLoss.label_losses(self, -losses), valid, outer)

    def label_losses(self, log_prob: Tensor) -> Tensor:
        """Return the loss of each label's logarithm of its probability."""
        return -log_prob - (-log_prob - _LARGEST_LOSS).clamp(min=0).detach()

    def _mean(self, losses: Tensor, valid: Tensor | None, outer: int) -> Tensor:
        if valid is not None:
            losses = losses.where(valid, 0)
        return losses.sum() / self.normalizer(outer, losses.numel(), valid)

    def _weights(self, labels: Tensor, valid: Tensor | None, rows: Tensor) -> Tensor:
        """Return the weight of each label."""
        if len(self.class_weighting):
            return self.class_weighting.to(rows)[labels]
        counted = torch.ones_like(labels) if valid is None else valid.long()
        counts = torch.zeros(rows.shape[1], dtype=torch.long, device=rows.device)
        counts = counts.index_add(0, labels, counted)
        return 1 / counts.clamp(min=1)[labels].to(rows.dtype)


@register_layer("SoftmaxWithLossOHEM", param="softmax_param")
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss whose third top is the loss of each label, 0 where ignored; no gradient."""

    tops = Arity(1, 3)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the shapes of the loss, the softmax, and the labels."""
        shapes = [*super().reshape(bottom_shapes)[:2], bottom_shapes[1]]
        return shapes[: self.top_count]
