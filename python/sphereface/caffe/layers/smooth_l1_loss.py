"""SmoothL1Loss: squares near zero, absolute values beyond.

Source: smooth_L1_loss_layer.cpp of Fast R-CNN's Caffe fork (Girshick, ICCV 2015, equation 3) and of
SSD's. What differs: with the three bottoms that SSD's layer allows, the gradient has the weights
too; the original's, which no net of SSD uses, forgets them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["SmoothL1Loss"]


@register_layer("SmoothL1Loss", param="smooth_l1_loss_param")
class SmoothL1Loss(LossLayer):
    """``sum outside * f(inside * (x - target)) / N``.

    ``f(d) = sigma^2 d^2 / 2`` for ``|d| < 1 / sigma^2``, else ``|d| - 1 / (2 sigma^2)``. Bottoms:
    x, the target, and weights of the same shape, inside and outside; both gradients flow to the
    first two.
    """

    bottoms = Arity(2, 4)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read sigma."""
        super().setup(bottom_shapes)
        self.sigma = self.options.sigma
        if self.sigma <= 0:
            raise self.error(f"sigma {self.sigma:g}", expected="a positive number")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that all bottoms have one shape."""
        if any(shape != bottom_shapes[0] for shape in bottom_shapes):
            raise self.error(f"bottoms of shapes {list(bottom_shapes)}", expected="equal shapes")
        return super().reshape(bottom_shapes)

    def forward(
        self, x: Tensor, target: Tensor, inside: Tensor | None = None, outside: Tensor | None = None
    ) -> Tensor:
        """Return the loss."""
        if inside is not None:
            x, target = x * inside.detach(), target * inside.detach()
        loss = F.smooth_l1_loss(x, target, reduction="none", beta=self.sigma**-2)
        if outside is not None:
            loss = loss * outside.detach()
        return loss.sum() / len(x)
