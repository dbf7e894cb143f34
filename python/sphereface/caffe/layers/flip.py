"""Flip: the mirror image.

Source: flip_layer.cpp of NormFace's Caffe fork, with its default: width, not height.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Flip", "flip"]


def flip(x: Tensor) -> Tensor:
    """Return the mirrored images."""
    return x.flip(3)


@register_layer("Flip")
class Flip(Layer):
    """``y[..., w] = x[..., W - 1 - w]`` over the last of four axes."""

    function = staticmethod(flip)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there are images and return the bottom's shape."""
        if len(bottom_shapes[0]) != 4:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="(N, C, H, W)")
        return bottom_shapes
