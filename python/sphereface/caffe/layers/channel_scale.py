"""ChannelScale: all channels of a position times one factor.

Source: channel_scale_layer.cpp of AM-Softmax's Caffe fork, without its global scale. What differs:
any number of spatial axes; ``do_backward_feature: false`` passes the diff on unscaled, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["ChannelScale", "channel_scale"]


def channel_scale(
    x: Tensor, scale: Tensor, *, scales_value: bool, scales_gradient: bool, learns_scale: bool
) -> Tensor:
    """Return x times a factor for every sample and position.

    Without `scales_value` the value is x; without `scales_gradient` the gradient of x is the top's;
    without `learns_scale` the factor has none.
    """
    factor = scale.reshape(x.shape[0], 1, *x.shape[2:])
    if not learns_scale:
        factor = factor.detach()
    y = x * factor if scales_gradient else x - x.detach() + x.detach() * factor
    return y if scales_value else y + (x - y).detach()


@register_layer("ChannelScale", param="channel_scale_param")
class ChannelScale(Layer):
    """``y[n, c, ...] = x[n, c, ...] s[n, ...]``.

    Bottoms: x (N, C, ...); s, with as many values as x has samples times positions, in any shape
    with N first, such as the second top of Normalize. ``do_forward``, ``do_backward_feature`` and
    ``do_backward_scale`` switch the factor off in the value, in the gradient of x, and the
    gradient of s.
    """

    bottoms = exactly(2)
    function = staticmethod(channel_scale)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the switches."""
        self.scales_value = self.options.do_forward
        self.scales_gradient = self.options.do_backward_feature
        self.learns_scale = self.options.do_backward_scale

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of factors and return the first bottom's shape."""
        shape, scale = bottom_shapes
        if len(shape) < 2 or scale[:1] != shape[:1] or prod(scale) != prod(shape[2:]) * shape[0]:
            raise self.error(
                f"factors of shape {scale} for a bottom of shape {shape}",
                expected="one for every sample and position",
            )
        return [shape]
