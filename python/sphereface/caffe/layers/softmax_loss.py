"""SoftmaxWithLoss: the multinomial logistic loss of the softmax of the bottom.

Source: Caffe's softmax_loss_layer.cpp. The value of one label is capped at -ln(FLT_MIN) = 87.3365
as there, with the gradient of the uncapped loss (probability minus one at the label). A label out
of range is an error on the CPU; Caffe reads foreign memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["SoftmaxWithLoss", "loss_normalization"]

_LARGEST_LOSS = -log(torch.finfo(torch.float32).tiny)


def loss_normalization(layer: Layer) -> str:
    """Return the normalization of a loss: its name, or what the older ``normalize`` means."""
    param = layer.layer_param.loss_param
    if not param.HasField("normalization") and param.HasField("normalize"):
        return "VALID" if param.normalize else "BATCH_SIZE"
    return (
        param.DESCRIPTOR.enum_types_by_name["NormalizationMode"]
        .values_by_number[param.normalization]
        .name
    )


@register_layer("SoftmaxWithLoss", param="softmax_param")
class SoftmaxWithLoss(Layer):
    """Loss ``-sum log softmax(x)[label] / normaliser``, a scalar; second top: the softmax.

    Bottoms: x (outer..., classes, inner...) with the classes on ``softmax_param.axis``; labels,
    outer * inner of them in any shape. ``loss_param``: ``ignore_label`` rows count nowhere;
    ``normalization`` divides by FULL outer * inner, VALID (default) the labels not ignored, at
    least 1, BATCH_SIZE outer, NONE 1.
    """

    bottoms = exactly(2)
    tops = Arity(1, 2)
    auto_tops = True
    default_loss_weight = 1.0

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read ignore_label and normalization."""
        loss = self.layer_param.loss_param
        self.softmax_axis = self.canonical_axis(self.options.axis, bottom_shapes[0])
        self.ignore_label = loss.ignore_label if loss.HasField("ignore_label") else None
        self.normalization = loss_normalization(self)

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
        return [(), shape][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and the softmax where the file asks for it."""
        log_prob = F.log_softmax(x, self.softmax_axis)
        rows = log_prob.movedim(self.softmax_axis, -1).flatten(0, -2)  # (outer * inner, classes)
        labels = label.reshape(-1).long()
        valid = None if self.ignore_label is None else labels != self.ignore_label
        if valid is not None:
            labels = labels.where(valid, 0)
        if not torch.compiler.is_compiling() and labels.device.type == "cpu":
            self._check(labels, rows.shape[1])
        losses = -rows.gather(1, labels[:, None])[:, 0]
        losses = losses - (losses - _LARGEST_LOSS).clamp(min=0).detach()
        if valid is not None:
            losses = losses.where(valid, 0)
        loss = losses.sum() / self._normalizer(x, labels, valid)
        return (loss, log_prob.exp()) if self.top_count == 2 else loss

    def _check(self, labels: Tensor, classes: int) -> None:
        if labels.numel() and not 0 <= (low := int(labels.min())) <= (top := int(labels.max())):
            raise self.error(f"label {low}", expected=f"0 to {classes - 1}")
        if labels.numel() and top >= classes:
            raise self.error(f"label {top}", expected=f"0 to {classes - 1}")

    def _normalizer(self, x: Tensor, labels: Tensor, valid: Tensor | None) -> Tensor | float:
        if self.normalization == "VALID" and valid is not None:
            return valid.sum().clamp(min=1)
        if self.normalization == "BATCH_SIZE":
            return max(prod(x.shape[: self.softmax_axis]), 1)
        return 1 if self.normalization == "NONE" else max(labels.numel(), 1)
