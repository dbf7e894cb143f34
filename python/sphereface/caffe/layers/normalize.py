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

__all__ = ["EPSILON", "Normalize", "normalize"]

EPSILON = 1e-6
"""Added to the sum below the root of L2, and to L1."""


def normalize(
    x: Tensor, *, normalize_type: str, bp_norm: bool, top_count: int
) -> Tensor | tuple[Tensor, Tensor]:
    """Return x over the norm of its channels, and with two tops the norm."""
    if normalize_type == "L2":
        norm = (x.square().sum(1, keepdim=True) + EPSILON).sqrt()
    else:
        norm = x.abs().sum(1, keepdim=True) + EPSILON
    if top_count == 1:
        return x / norm
    return x / norm, norm if bp_norm else norm.detach()


@register_layer("Normalize", param="normalize_param")
class Normalize(Layer):
    """``y = x / norm`` over axis 1; second top: the norm, with 1 channel.

    ``normalize_type`` "L2": ``norm = sqrt(sum x^2 + 1e-6)``; "L1": ``norm = sum |x| + 1e-6``.
    ``bp_norm: true`` lets the gradient of the second top through.
    """

    tops = Arity(1, 2)
    function = staticmethod(normalize)

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
