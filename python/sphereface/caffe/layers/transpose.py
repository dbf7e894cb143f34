"""Transpose and Reverse: the axes in another order, and one axis backwards.

Source: transpose_layer.cpp and reverse_axis_layer.cpp of the forks that read lines of text (CRNN).
What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Reverse", "Transpose", "reverse", "transpose"]


def transpose(x: Tensor, *, order: tuple[int, ...]) -> Tensor:
    """Return x with its axes in `order`."""
    return x.permute(order)


@register_layer("Transpose", param="transpose_param")
class Transpose(Layer):
    """Axis i of the top is axis ``dim[i]`` of the bottom."""

    function = staticmethod(transpose)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the order of the axes."""
        self.order = tuple(self.options.dim)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the sizes in the new order."""
        shape = bottom_shapes[0]
        if sorted(self.order) != list(range(len(shape))):
            raise self.error(
                f"dim {self.order} for a bottom of shape {shape}",
                expected=f"each of 0 to {len(shape) - 1} once",
            )
        return [tuple(shape[axis] for axis in self.order)]


def reverse(x: Tensor, *, axis: int) -> Tensor:
    """Return x backwards along `axis`."""
    return x.flip(axis)


@register_layer("Reverse", param="reverse_param")
class Reverse(Layer):
    """The bottom backwards along ``axis`` (0: time)."""

    function = staticmethod(reverse)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis."""
        self.axis = self.canonical_axis(self.options.axis, bottom_shapes[0])
