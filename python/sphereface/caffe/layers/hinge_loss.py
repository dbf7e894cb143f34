"""HingeLoss: one-against-all hinge loss, L1 or L2.

Source: Caffe's hinge_loss_layer.cpp. A margin of exactly zero has no gradient, as there. What
differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import ScoreLoss
from sphereface.caffe.registry import register_layer

__all__ = ["HingeLoss"]


@register_layer("HingeLoss", param="hinge_loss_param")
class HingeLoss(ScoreLoss):
    """1 / N sum max(0, 1 - d x)^p with d = 1 at the label and -1 elsewhere; p by ``norm``.

    Bottoms: scores (N, classes...), labels, one a sample.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the norm."""
        super().setup(bottom_shapes)
        self.squared = self.options.norm == self.options.L2

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        scores, column = self.rows_and_labels(x, label)
        own = torch.zeros_like(scores, dtype=torch.bool).scatter(1, column, True)
        margins = (1 + scores.where(~own, -scores)).relu()
        return (margins.square() if self.squared else margins).sum() / x.shape[0]
