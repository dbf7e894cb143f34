"""Reorg: darknet's passthrough, positions to channels.

Source: darknet's reorg_cpu (Redmon and Farhadi, YOLO9000, CVPR 2017) as its Caffe ports and OpenCV
have it: without ``reverse`` the blob is read as if it were the larger one, which gives an order of
its own, not that of a space-to-depth. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Reorg", "reorg"]


def reorg(x: Tensor, *, stride: int, reverse: bool) -> Tensor:
    """Return (N, C s^2, H / s, W / s), or with `reverse` (N, C / s^2, H s, W s)."""
    count, channels, height, width = x.shape
    few = channels // stride**2
    if reverse:
        parts = x.reshape(count, stride, stride, few, height, width)
        wide = parts.permute(0, 3, 4, 1, 5, 2)
        return wide.reshape(count, few, height * stride, width * stride)
    parts = x.reshape(count, few, height, stride, width, stride).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(count, channels * stride**2, height // stride, width // stride)


@register_layer("Reorg", param="reorg_param")
class Reorg(Layer):
    """Blocks of ``stride`` by ``stride`` positions become channels, or with ``reverse`` back."""

    function = staticmethod(reorg)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the stride."""
        self.stride, self.reverse = self.options.stride, self.options.reverse
        if self.stride < 1:
            raise self.error(f"stride {self.stride}", expected="at least 1")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the sizes are multiples."""
        shape, stride = bottom_shapes[0], self.stride
        if len(shape) != 4 or shape[1] % stride**2:
            raise self.error(
                f"bottom of shape {shape}", expected=f"4 axes, channels a multiple of {stride**2}"
            )
        count, channels, height, width = shape
        if self.reverse:
            return [(count, channels // stride**2, height * stride, width * stride)]
        if height % stride or width % stride:
            raise self.error(
                f"bottom of shape {shape}", expected=f"height and width multiples of {stride}"
            )
        return [(count, channels * stride**2, height // stride, width // stride)]
