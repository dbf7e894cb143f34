"""Flatten: the axes from ``axis`` to ``end_axis`` become one.

Source: Caffe's flatten_layer.cpp. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Flatten", "flatten"]


def flatten(x: Tensor, *, axis: int, end_axis: int) -> Tensor:
    """Return x with the axes from `axis` to `end_axis` as one, which is new if there are none."""
    start, end = axis % x.dim(), end_axis % x.dim()
    return x.unsqueeze(start) if end < start else x.flatten(start, end)


@register_layer("Flatten", param="flatten_param")
class Flatten(Layer):
    """(N, C, H, W) to (N, C * H * W) by default: ``axis`` 1 to ``end_axis`` -1, both included.

    With ``end_axis`` one before ``axis`` a new axis of size 1 stands at ``axis``.
    """

    function = staticmethod(flatten)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axes."""
        self.axis, self.end_axis = self.options.axis, self.options.end_axis
        if self.layer_param.top[0] == self.layer_param.bottom[0]:
            raise self.error("in-place computation", expected="a top of another name")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Multiply the sizes of the flattened axes."""
        shape = bottom_shapes[0]
        start = self.canonical_axis(self.axis, shape)
        end = self.canonical_axis(self.end_axis, shape)
        if end < start - 1:
            raise self.error(
                f"axis {self.axis} is behind end_axis {self.end_axis} (bottom {shape})",
                expected="axis <= end_axis, or one more for a new axis of size 1",
            )
        return [(*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])]
