"""Reshape: the bottom's values in another shape.

Source: Caffe's reshape_layer.cpp. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Reshape", "replaced_axes", "reshape", "top_shape"]


def replaced_axes(axes: int, axis: int, num_axes: int) -> tuple[int, int]:
    """Return the first axis that is replaced, of `axes`, and the first behind."""
    start = axis if axis >= 0 else axes + axis + 1
    return start, axes if num_axes == -1 else start + num_axes


def top_shape(
    shape: Sequence[int], dims: tuple[int, ...], axis: int, num_axes: int
) -> tuple[int, ...]:
    """Return `shape` with the axes replaced; -1 where a size is inferred."""
    start, end = replaced_axes(len(shape), axis, num_axes)
    new = [shape[start + i] if dim == 0 else dim for i, dim in enumerate(dims)]
    return (*shape[:start], *new, *shape[end:])


def reshape(x: Tensor, *, dims: tuple[int, ...], axis: int, num_axes: int) -> Tensor:
    """Return x with axes replaced by `dims`: 0 copies the size, -1 infers one."""
    return x.reshape(top_shape(x.shape, dims, axis, num_axes))


@register_layer("Reshape", param="reshape_param")
class Reshape(Layer):
    """Replace axes of the bottom by ``shape``: 0 copies the bottom's size, -1 infers one.

    The axes replaced are ``num_axes`` (-1: all) from ``axis`` on. A negative ``axis`` counts from
    behind the last axis, so -1 with ``num_axes: 0`` appends.
    """

    function = staticmethod(reshape)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the sizes and the range of axes."""
        options = self.options
        self.dims = tuple(options.shape.dim)
        self.axis, self.num_axes = options.axis, options.num_axes
        if self.layer_param.top[0] == self.layer_param.bottom[0]:
            raise self.error("in-place computation", expected="a top of another name")
        if self.dims.count(-1) > 1 or min(self.dims, default=0) < -1:
            raise self.error(f"shape {list(self.dims)}", expected="sizes, 0, and at most one -1")
        if self.num_axes < -1:
            raise self.error(f"num_axes {self.num_axes}", expected="0 or more, or -1 for all")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the range and the number of values, and infer the size at -1."""
        shape = bottom_shapes[0]
        start, end = replaced_axes(len(shape), self.axis, self.num_axes)
        if not 0 <= start <= end <= len(shape):
            raise self.error(
                f"axis {self.axis} and num_axes {self.num_axes} for a bottom of shape {shape}",
                expected=f"a range within its {len(shape)} axes",
            )
        for position, dim in enumerate(self.dims):
            if dim == 0 and start + position >= len(shape):
                raise self.error(
                    f"the 0 at index {position} has no axis to copy in a bottom of shape {shape}"
                )
        top = top_shape(shape, self.dims, self.axis, self.num_axes)
        count, known = prod(shape), prod(size for size in top if size != -1)
        if -1 in top and known and count % known == 0:
            top = tuple(count // known if size == -1 else size for size in top)
        if -1 in top or prod(top) != count:
            raise self.error(
                f"shape {top} for a bottom of shape {shape}", expected=f"{count} values in all"
            )
        return [top]
