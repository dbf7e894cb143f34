"""Softmax over one axis.

Source: Caffe's softmax_layer.cpp. What differs: nothing; ``engine`` has no meaning here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Softmax", "softmax"]


def softmax(x: Tensor, *, axis: int) -> Tensor:
    """Return the probabilities."""
    return x.softmax(axis)


@register_layer("Softmax", param="softmax_param")
class Softmax(Layer):
    """exp(x) / sum exp(x) over ``axis`` (default 1)."""

    function = staticmethod(softmax)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis."""
        self.axis = self.options.axis

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the axis."""
        self.canonical_axis(self.axis, bottom_shapes[0])
        return [bottom_shapes[0]]
