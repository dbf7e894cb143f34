"""EuclideanLoss: half the mean squared distance of two batches.

Source: Caffe's euclidean_loss_layer.cpp. Both bottoms get their gradient. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["EuclideanLoss"]


@register_layer("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """1 / (2 N) sum (a - b)^2, N the batch size."""

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that both bottoms have as many values a sample."""
        first, second = bottom_shapes
        if prod(first[1:]) != prod(second[1:]):
            raise self.error(
                f"bottoms of shapes {first} and {second}", expected="as many values a sample"
            )
        return super().reshape(bottom_shapes)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the loss."""
        return (a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])
