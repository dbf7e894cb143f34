"""Reduction: sum, sum of magnitudes, sum of squares or mean over the axes from ``axis`` on.

Source: Caffe's reduction_layer.cpp. What differs: nothing; ASUM's gradient at zero is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Reduction"]


@register_layer("Reduction", param="reduction_param")
class Reduction(Layer):
    """``coeff`` times SUM, ASUM, SUMSQ or MEAN; the axes before ``axis`` (default 0) stay."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Choose the operation."""
        options = self.options
        operations: dict[int, Callable[[Tensor], Tensor]] = {
            options.SUM: _sum,
            options.ASUM: _asum,
            options.SUMSQ: _sumsq,
            options.MEAN: _mean,
        }
        self.operation = operations[options.operation]
        self.axis, self.coeff = options.axis, options.coeff

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Drop the axes from ``axis`` on."""
        return [bottom_shapes[0][: self.canonical_axis(self.axis, bottom_shapes[0])]]

    def forward(self, x: Tensor) -> Tensor:
        """Return one value for each index of the axes that stay."""
        y = self.operation(x.flatten(self.axis))
        return y if self.coeff == 1 else self.coeff * y


def _sum(rows: Tensor) -> Tensor:
    return rows.sum(-1)


def _asum(rows: Tensor) -> Tensor:
    return rows.abs().sum(-1)


def _sumsq(rows: Tensor) -> Tensor:
    return rows.square().sum(-1)


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(-1)
