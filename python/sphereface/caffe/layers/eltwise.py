"""Eltwise: product, sum with coefficients, or maximum of blobs of one shape.

Source: Caffe's eltwise_layer.cpp. Where MAX meets equal values the gradient goes to one bottom, as
in Caffe: the second of the first two, the earlier of later ones. ``stable_prod_grad: false``
(dividing the product by each factor) has the same gradient where no factor is zero, and the stable
one is always used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Eltwise"]


@register_layer("Eltwise", param="eltwise_param")
class Eltwise(Layer):
    """Combine all bottoms element by element: PROD, SUM (``coeff`` a bottom) or MAX."""

    bottoms = at_least(2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Choose the operation and check its coefficients."""
        options = self.options
        self.coeff = tuple(options.coeff)
        if self.coeff and len(self.coeff) != len(bottom_shapes):
            raise self.error(
                f"{len(self.coeff)} coeff values for {len(bottom_shapes)} bottoms",
                expected="none, or one for each bottom",
            )
        if self.coeff and options.operation != options.SUM:
            raise self.error("coeff with an operation other than SUM", expected="operation: SUM")
        if all(value == 1 for value in self.coeff):
            self.coeff = ()
        operations: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
            options.PROD: torch.mul,
            options.SUM: torch.add,
            options.MAX: _maximum,
        }
        self.combine = operations[options.operation]
        self.pick_second = options.operation == options.MAX

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that all bottoms have one shape and return it."""
        for position, shape in enumerate(bottom_shapes):
            if shape != bottom_shapes[0]:
                raise self.error(
                    f"bottom {position} has shape {shape}",
                    expected=f"{bottom_shapes[0]}, that of bottom 0",
                )
        return [bottom_shapes[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Return the combination of all bottoms."""
        if self.coeff:
            bottoms = tuple(
                x if c == 1 else c * x for c, x in zip(self.coeff, bottoms, strict=True)
            )
        if self.pick_second:
            bottoms = (bottoms[1], bottoms[0], *bottoms[2:])
        return reduce(self.combine, bottoms)


def _maximum(first: Tensor, second: Tensor) -> Tensor:
    # torch.maximum would split the gradient of equal values.
    return torch.where(second > first, second, first)
