"""HingeLoss: one-against-all hinge loss, L1 or L2.

Source: Caffe's hinge_loss_layer.cpp. A margin of exactly zero has no gradient, as there. What
differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["HingeLoss"]


@register_layer("HingeLoss", param="hinge_loss_param")
class HingeLoss(LossLayer):
    """1 / N sum max(0, 1 - d x)^p with d = 1 at the label and -1 elsewhere; p by ``norm``.

    Bottoms: scores (N, classes...), labels, one a sample.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the norm."""
        super().setup(bottom_shapes)
        self.squared = self.options.norm == self.options.L2

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels."""
        label_shape = bottom_shapes[1]
        if prod(label_shape[1:]) != 1:
            raise self.error(f"labels of shape {label_shape}", expected="one label a sample")
        return super().reshape(bottom_shapes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        scores = x.reshape(x.shape[0], -1)
        labels = label.reshape(-1, 1).long()
        self.check_labels(labels, scores.shape[1])
        own = torch.zeros_like(scores, dtype=torch.bool).scatter(1, labels, True)
        margins = (1 + scores.where(~own, -scores)).relu()
        return (margins.square() if self.squared else margins).sum() / x.shape[0]
