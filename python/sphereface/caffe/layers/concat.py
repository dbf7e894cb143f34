"""Concat: the bottoms joined along one axis.

Source: Caffe's concat_layer.cpp. What differs: nothing; ``concat_dim`` is the older name of
``axis`` and takes no negative values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Concat", "concat"]


def concat(*bottoms: Tensor, axis: int) -> Tensor:
    """Return the joined bottoms."""
    return torch.cat(bottoms, axis)


@register_layer("Concat", param="concat_param")
class Concat(Layer):
    """Join bottoms that agree in every axis but ``axis`` (default 1)."""

    bottoms = at_least(1)
    function = staticmethod(concat)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis under either name."""
        options = self.options
        if options.HasField("axis") and options.HasField("concat_dim"):
            raise self.error("both axis and concat_dim", expected="one of them")
        self.axis = options.concat_dim if options.HasField("concat_dim") else options.axis

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the bottoms fit together and add up their sizes."""
        first = bottom_shapes[0]
        axis = self.canonical_axis(self.axis, first)
        for position, shape in enumerate(bottom_shapes):
            if len(shape) != len(first) or _without(shape, axis) != _without(first, axis):
                raise self.error(
                    f"bottom {position} has shape {shape}",
                    expected=f"{first}, that of bottom 0, except on axis {axis}",
                )
        total = sum(shape[axis] for shape in bottom_shapes)
        return [(*first[:axis], total, *first[axis + 1 :])]


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]
