"""Permute: the axes in another order.

Source: permute_layer.cpp of SSD's Caffe fork. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Permute", "permute"]


def permute(x: Tensor, *, order: tuple[int, ...]) -> Tensor:
    """Return x with axis ``order[i]`` at place i."""
    return x.permute(order)


@register_layer("Permute", param="permute_param")
class Permute(Layer):
    """Axis ``order[i]`` of the bottom becomes axis i; axes that are not named follow in order."""

    function = staticmethod(permute)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Complete the order."""
        shape, given = bottom_shapes[0], tuple(self.options.order)
        if len({*given}) < len(given) or any(axis >= len(shape) for axis in given):
            raise self.error(
                f"order {given} for a bottom of shape {shape}",
                expected=f"axes from 0 to {len(shape) - 1}, each once",
            )
        self.order = given + tuple(axis for axis in range(len(shape)) if axis not in given)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the sizes in the new order."""
        shape = bottom_shapes[0]
        if len(shape) != len(self.order):
            raise self.error(f"bottom of shape {shape}", expected=f"{len(self.order)} axes")
        return [tuple(shape[axis] for axis in self.order)]
