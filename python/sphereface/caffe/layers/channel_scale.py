"""ChannelScale: all channels of a position times one factor.

Source: channel_scale_layer.cpp of AM-Softmax's Caffe fork, without its later options. What differs:
any number of spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["ChannelScale", "channel_scale"]


def channel_scale(x: Tensor, scale: Tensor) -> Tensor:
    """Return x times a factor for every sample and position."""
    return x * scale.reshape(x.shape[0], 1, *x.shape[2:])


@register_layer("ChannelScale")
class ChannelScale(Layer):
    """``y[n, c, ...] = x[n, c, ...] s[n, ...]``.

    Bottoms: x (N, C, ...); s, with as many values as x has samples times positions, in any shape
    with N first, such as the second top of Normalize.
    """

    bottoms = exactly(2)
    function = staticmethod(channel_scale)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of factors and return the first bottom's shape."""
        shape, scale = bottom_shapes
        if len(shape) < 2 or scale[:1] != shape[:1] or prod(scale) != prod(shape[2:]) * shape[0]:
            raise self.error(
                f"factors of shape {scale} for a bottom of shape {shape}",
                expected="one for every sample and position",
            )
        return [shape]
