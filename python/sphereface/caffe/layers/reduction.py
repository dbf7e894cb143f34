"""Reduction: sum, sum of magnitudes, sum of squares or mean over the axes from ``axis`` on.

Source: Caffe's reduction_layer.cpp. What differs: nothing; ASUM's gradient at zero is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Reduction", "reduction"]


def reduction(x: Tensor, *, operation: str, axis: int, coeff: float) -> Tensor:
    """Return `coeff` times the sum or mean over the axes from `axis` on."""
    rows = x.flatten(axis)
    if operation == "ASUM":
        rows = rows.abs()
    elif operation == "SUMSQ":
        rows = rows.square()
    y = rows.mean(-1) if operation == "MEAN" else rows.sum(-1)
    return y if coeff == 1 else coeff * y


@register_layer("Reduction", param="reduction_param")
class Reduction(Layer):
    """``coeff`` times SUM, ASUM, SUMSQ or MEAN; the axes before ``axis`` (default 0) stay."""

    function = staticmethod(reduction)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Choose the operation."""
        self.operation = self.option_name("operation")
        self.axis, self.coeff = self.options.axis, self.options.coeff

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Drop the axes from ``axis`` on."""
        return [bottom_shapes[0][: self.canonical_axis(self.axis, bottom_shapes[0])]]
