"""ShuffleChannel: channels of groups, interleaved.

Source: shuffle_channel_layer.cpp of ShuffleNet's Caffe port (Zhang et al., CVPR 2018). What
differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["ShuffleChannel", "shuffle_channels"]


def shuffle_channels(x: Tensor, *, group: int) -> Tensor:
    """Return x with the first channel of every group, then the second, and so on."""
    return x.unflatten(1, (group, -1)).transpose(1, 2).flatten(1, 2)


@register_layer("ShuffleChannel", param="shuffle_channel_param")
class ShuffleChannel(Layer):
    """The channels as rows of ``group`` (1) groups, transposed."""

    function = staticmethod(shuffle_channels)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Check that the groups are equal."""
        self.group = self.options.group
        channels = bottom_shapes[0][self.canonical_axis(1, bottom_shapes[0])]
        if self.group < 1 or channels % self.group:
            raise self.error(
                f"group {self.group} of {channels} channels", expected="a divisor of the channels"
            )
