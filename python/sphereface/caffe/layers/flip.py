"""Flip: the mirror image.

Source: flip_layer.cpp of NormFace's Caffe fork. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Flip", "flip"]


def flip(x: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    """Return the images mirrored along `axes`."""
    return x.flip(axes)


@register_layer("Flip", param="flip_param")
class Flip(Layer):
    """``y[..., w] = x[..., W - 1 - w]``: ``flip_width`` (the default), ``flip_height``, or both."""

    function = staticmethod(flip)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read which axes are mirrored."""
        flipped = {2: self.options.flip_height, 3: self.options.flip_width}
        self.axes = tuple(axis for axis, given in flipped.items() if given)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there are images and return the bottom's shape."""
        if len(bottom_shapes[0]) != 4:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="(N, C, H, W)")
        return bottom_shapes
