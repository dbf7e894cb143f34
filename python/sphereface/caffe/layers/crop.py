"""Crop: the part of the first bottom that has the sizes of the second, from `axis` on.

Source: Caffe's crop_layer.cpp. What differs: nothing. The second bottom only gives sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Crop", "crop"]


def crop(x: Tensor, sizes: Tensor, *, axis: int, offsets: tuple[int, ...]) -> Tensor:
    """Return the part of x that has the sizes of the second bottom from `axis` on."""
    for i, offset in enumerate(offsets, axis):
        x = x.narrow(i, offset, sizes.shape[i])
    return x


@register_layer("Crop", param="crop_param")
class Crop(Layer):
    """x[..., offset : offset + size, ...] for every axis from ``axis`` on.

    ``offset``: none (0), one for all axes, or one for each.
    """

    bottoms = exactly(2)
    function = staticmethod(crop)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read axis and offsets."""
        shape = bottom_shapes[0]
        self.axis = self.canonical_axis(self.options.axis, shape)
        axes = len(shape) - self.axis
        offsets = tuple(self.options.offset) or (0,)
        if len(offsets) not in (1, axes):
            raise self.error(
                f"{len(offsets)} offset values",
                expected=f"none, one, or one for each of the {axes} axes from {self.axis} on",
            )
        self.offsets = offsets * axes if len(offsets) == 1 else offsets

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the part lies within the bottom and return its shape."""
        shape, sizes = bottom_shapes
        if len(shape) != self.axis + len(self.offsets) or len(sizes) < len(shape):
            raise self.error(
                f"bottoms of shapes {shape} and {sizes}",
                expected=f"{self.axis + len(self.offsets)} axes, at least as many in the second",
            )
        for axis, offset in enumerate(self.offsets, self.axis):
            if offset + sizes[axis] > shape[axis]:
                raise self.error(
                    f"size {sizes[axis]} at offset {offset} of axis {axis}",
                    expected=f"a part of the {shape[axis]} of the first bottom",
                )
        return [(*shape[: self.axis], *sizes[self.axis : len(shape)])]
