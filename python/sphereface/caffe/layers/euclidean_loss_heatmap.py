"""EuclideanLossHeatmap: the mean squared difference of heat maps.

Source: euclidean_loss_heatmap_layer.cpp of Pfister's Caffe fork (Pfister et al., ICCV 2015). As
there the gradient is the difference itself, for no mean and whatever the loss_weight. What differs:
the labels get no gradient, and nothing is shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["EuclideanLossHeatmap"]


@register_layer("EuclideanLossHeatmap")
class EuclideanLossHeatmap(LossLayer):
    """The mean of (a - b)^2 over maps a and b of one shape (N, C, H, W).

    The gradient of a is a - b. A third bottom, the pictures, is for what the fork shows.
    """

    bottoms = Arity(2, 3)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the loss weight, which the gradient does not know."""
        super().setup(bottom_shapes)
        self.factor = float(next(iter(self.layer_param.loss_weight), 1.0)) or 1.0

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the maps have one shape."""
        if len(bottom_shapes[0]) != 4 or bottom_shapes[0] != bottom_shapes[1]:
            raise self.error(
                f"bottoms of shapes {bottom_shapes[0]} and {bottom_shapes[1]}",
                expected="(N, C, H, W) both",
            )
        return super().reshape(bottom_shapes)

    def forward(self, a: Tensor, b: Tensor, *_: Tensor) -> Tensor:
        """Return the loss."""
        square = (a - b.detach()).square()
        slope = square.sum() / (2 * self.factor)
        return square.detach().mean() + (slope - slope.detach())
