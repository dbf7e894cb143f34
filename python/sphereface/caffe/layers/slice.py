"""Slice: the bottom cut along one axis, a piece a top.

Source: Caffe's slice_layer.cpp. What differs: nothing; ``slice_dim`` is the older name of ``axis``
and takes no negative values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Slice", "cut", "piece_sizes"]


def piece_sizes(size: int, points: tuple[int, ...], count: int) -> list[int]:
    """Return the sizes of the `count` pieces of an axis of `size`: even, or cut at `points`."""
    if not points:
        return [size // count] * count
    return [end - start for start, end in pairwise((0, *points, size))]


def cut(
    x: Tensor, *, points: tuple[int, ...], axis: int, top_count: int
) -> Tensor | tuple[Tensor, ...]:
    """Return the pieces of x along `axis`."""
    pieces = x.split(piece_sizes(x.shape[axis], points, top_count), axis)
    return pieces[0] if top_count == 1 else pieces


@register_layer("Slice", param="slice_param")
class Slice(Layer):
    """Cut ``axis`` (default 1) at each ``slice_point``, or into equal pieces if there is none."""

    tops = at_least(1)
    function = staticmethod(cut)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis under either name and check the points."""
        options = self.options
        if options.HasField("axis") and options.HasField("slice_dim"):
            raise self.error("both axis and slice_dim", expected="one of them")
        self.axis = options.slice_dim if options.HasField("slice_dim") else options.axis
        self.points = tuple(options.slice_point)
        if self.points and len(self.points) != self.top_count - 1:
            raise self.error(
                f"{len(self.points)} slice_point values for {self.top_count} tops",
                expected=f"none, or {self.top_count - 1}",
            )
        if any(b <= a for a, b in pairwise((0, *self.points))):
            raise self.error(f"slice_point {list(self.points)}", expected="rising, from 1 on")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the pieces fit into the axis."""
        shape = bottom_shapes[0]
        axis = self.canonical_axis(self.axis, shape)
        size = shape[axis]
        if self.points and self.points[-1] > size:
            raise self.error(
                f"slice_point {self.points[-1]} for an axis of size {size} (bottom {shape})",
                expected=f"at most {size}",
            )
        if not self.points and size % self.top_count:
            raise self.error(
                f"{self.top_count} tops for an axis of size {size} (bottom {shape})",
                expected="a number of tops that divides it, or slice_point",
            )
        sizes = piece_sizes(size, self.points, self.top_count)
        return [(*shape[:axis], piece, *shape[axis + 1 :]) for piece in sizes]
