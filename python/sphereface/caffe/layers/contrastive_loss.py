"""ContrastiveLoss: pulls pairs of one class together and pushes others apart up to a margin.

Source: Caffe's contrastive_loss_layer.cpp (Hadsell et al. 2006), with ``legacy_version``. The
gradient of a dissimilar pair divides by its distance plus 1e-4 as there, so it is a little smaller
than the derivative, and zero at distance zero. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["ContrastiveLoss"]

_EPSILON = 1e-4


@register_layer("ContrastiveLoss", param="contrastive_loss_param")
class ContrastiveLoss(LossLayer):
    """1 / (2 N) sum of d^2 where similar is not 0, else max(margin - d, 0)^2; d = |a - b|.

    With ``legacy_version`` the second is max(margin - d^2, 0). Bottoms: a and b (N, C), similar
    (N,); axes of size 1 may follow.
    """

    bottoms = exactly(3)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margin."""
        super().setup(bottom_shapes)
        self.margin, self.legacy = self.options.margin, self.options.legacy_version

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that a and b are vectors of one length, and that similar has a value for each."""
        a, b, similar = bottom_shapes
        if prod(a[1:2]) != prod(b[1:2]) or prod(a[2:]) != 1 or prod(b[2:]) != 1:
            raise self.error(
                f"features of shapes {a} and {b}", expected="(N, C) for both, of one length C"
            )
        if similar[:1] != a[:1] or prod(similar[1:]) != 1:
            raise self.error(f"similar of shape {similar}", expected="one value for each pair")
        return super().reshape(bottom_shapes)

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        """Return the loss."""
        difference = a.reshape(a.shape[0], -1) - b.reshape(b.shape[0], -1)
        alike = similar.reshape(-1).long() != 0
        squares = difference.square().sum(1)
        with torch.no_grad():
            value, slope = self._dissimilar(squares)
            value = torch.where(alike, squares, value)
            slope = torch.where(alike, 1, slope)
        # Its value is zero, its gradient with `slope` held fixed is Caffe's.
        gradient = slope * (squares - squares.detach())
        return (value + gradient).sum() / (2 * a.shape[0])

    def _dissimilar(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        if self.legacy:
            value = (self.margin - squares).clamp(min=0)
            return value, -(value > 0).to(squares.dtype)
        distance = squares.sqrt()
        value = (self.margin - distance).clamp(min=0)
        return value.square(), -value / (distance + _EPSILON)
