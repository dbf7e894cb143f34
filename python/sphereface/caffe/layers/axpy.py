"""Axpy: a x + y with a factor a channel, the end of a squeeze-and-excitation block.

Source: axpy_layer.cpp of SENet's Caffe fork (Hu et al., CVPR 2018). What differs: any number of
spatial axes; the factors may have any axes of size 1 behind the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Axpy", "axpy"]


def axpy(a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return a x + y, a repeated over the axes behind the channels."""
    return a.reshape(x.shape[0], x.shape[1], *[1] * (x.dim() - 2)) * x + y


@register_layer("Axpy")
class Axpy(Layer):
    """``a x + y``: bottoms a (N, C) or (N, C, 1, 1), and x and y (N, C, ...) of one shape."""

    bottoms = exactly(3)
    function = staticmethod(axpy)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the three shapes and return that of x."""
        a, x, y = bottom_shapes
        if len(x) < 2 or x != y:
            raise self.error(f"x and y of shapes {x} and {y}", expected="one shape (N, C, ...)")
        if a[:2] != x[:2] or prod(a) != prod(x[:2]):
            raise self.error(
                f"factors of shape {a} for x of shape {x}", expected=f"{x[:2]}, one a channel"
            )
        return [x]
