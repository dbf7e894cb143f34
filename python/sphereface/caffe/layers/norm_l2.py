"""NormL2: every sample divided by its norm.

Source: normL2_layer.cpp of the face-recognition forks (triplet networks, ArcFace-caffe). What
differs: bottoms keep their number of axes, where the forks make them 4-D.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["EPSILON", "NormL2", "norm_l2"]

EPSILON = 1e-7
"""Added to the sum of squares below the root."""


def norm_l2(x: Tensor) -> Tensor:
    """Return each sample of x over its norm."""
    rows = x.flatten(1)
    return (rows / (rows.square().sum(1, keepdim=True) + EPSILON).sqrt()).reshape(x.shape)


@register_layer("NormL2")
class NormL2(Layer):
    """``y = x / sqrt(sum x^2 + 1e-7)`` over all axes but the first."""

    function = staticmethod(norm_l2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there are samples and return the bottom's shape."""
        if len(bottom_shapes[0]) < 2:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="(N, features...)")
        return bottom_shapes
