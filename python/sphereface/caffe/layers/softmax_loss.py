"""SoftmaxWithLoss: the multinomial logistic loss of the softmax of the bottom.

Source: Caffe's softmax_loss_layer.cpp. The value of one label is capped at -ln(FLT_MIN) = 87.3365
as there, with the gradient of the uncapped loss (probability minus one at the label). What differs:
nothing.
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
from sphereface.caffe.registry import register_layer

__all__ = ["SoftmaxWithLoss"]

_LARGEST_LOSS = -log(torch.finfo(torch.float32).tiny)


@register_layer("SoftmaxWithLoss", param="softmax_param")
class SoftmaxWithLoss(LossLayer):
    """Loss ``-sum log softmax(x)[label] / normaliser``, a scalar; second top: the softmax.

    Bottoms: x (outer..., classes, inner...) with the classes on ``softmax_param.axis``; labels,
    outer * inner of them with x's first size. ``loss_param``: ``ignore_label`` rows count nowhere;
    ``normalization`` divides by FULL outer * inner, VALID (default) the labels not ignored, at
    least 1, BATCH_SIZE outer, NONE 1.
    """

    tops = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis, ignore_label and normalization."""
        super().setup(bottom_shapes)
        self.softmax_axis = self.canonical_axis(self.options.axis, bottom_shapes[0])

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
        """Return the loss, and the softmax where the file asks for it."""
        log_prob = F.log_softmax(x, self.softmax_axis)
        rows = log_prob.movedim(self.softmax_axis, -1).flatten(0, -2)  # (outer * inner, classes)
        labels, valid = counted_labels(self, label, rows.shape[1], self.ignore_label)
        losses = -rows.gather(1, labels[:, None])[:, 0]
        loss = self.total(losses, valid, prod(x.shape[: self.softmax_axis]))
        return (loss, log_prob.exp()) if self.top_count == 2 else loss

    def total(self, losses: Tensor, valid: Tensor | None, outer: int) -> Tensor:
        """Return the loss of all labels, from the loss of each."""
        losses = losses - (losses - _LARGEST_LOSS).clamp(min=0).detach()
        if valid is not None:
            losses = losses.where(valid, 0)
        return losses.sum() / self.normalizer(outer, losses.numel(), valid)
