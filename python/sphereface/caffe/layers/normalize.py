"""Normalize: every position divided by the norm of its channels.

Source: normalize_layer.cpp of NormFace's and SphereFace+'s Caffe forks (SSD's layer of this name is
another). What differs: bottoms keep their number of axes, where the forks make them 4-D.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Normalize"]

_EPSILON = 1e-6


@register_layer("Normalize", param="normalize_param")
class Normalize(Layer):
    """``y = x / norm`` over axis 1; second top: the norm, with 1 channel.

    ``normalize_type`` "L2": ``norm = sqrt(sum x^2 + 1e-6)``; "L1": ``norm = sum |x| + 1e-6``.
    ``bp_norm: true`` lets the gradient of the second top through.
    """

    tops = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Check the type of norm."""
        self.canonical_axis(1, bottom_shapes[0])
        self.normalize_type = self.options.normalize_type
        self.bp_norm = self.options.bp_norm
        if self.normalize_type not in ("L1", "L2"):
            raise self.error(f'normalize_type "{self.normalize_type}"', expected='"L1" or "L2"')

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the bottom's shape, and that of the norm."""
        shape = bottom_shapes[0]
        return [shape, (shape[0], 1, *shape[2:])][: self.top_count]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the quotient, and the norm where the file asks for it."""
        if self.normalize_type == "L2":
            norm = (x.square().sum(1, keepdim=True) + _EPSILON).sqrt()
        else:
            norm = x.abs().sum(1, keepdim=True) + _EPSILON
        if self.top_count == 1:
            return x / norm
        return x / norm, norm if self.bp_norm else norm.detach()
