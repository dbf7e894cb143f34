"""Eltwise: product, sum with coefficients, or maximum of blobs of one shape.

Source: Caffe's eltwise_layer.cpp. Where MAX meets equal values the gradient goes to one bottom, as
in Caffe: the second of the first two, the earlier of later ones. One bottom is FlowNet's fork's:
it is multiplied by its coefficient. ``stable_prod_grad: false`` (dividing the product by each
factor) has the same gradient where no factor is zero, and the stable one is always used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Eltwise", "eltwise"]


def eltwise(*bottoms: Tensor, operation: str, coeff: tuple[float, ...]) -> Tensor:
    """Return the product, the sum with coefficients, or the maximum of all bottoms."""
    if operation == "PROD":
        return reduce(torch.mul, bottoms)
    if operation == "MAX":
        # Of equal values one has the gradient, which torch.maximum would split.
        y = bottoms[0]
        for position, x in enumerate(bottoms[1:]):
            y = torch.where(x > y, x, y) if position else torch.where(y > x, y, x)
        return y
    if coeff:
        bottoms = tuple(x if c == 1 else c * x for c, x in zip(coeff, bottoms, strict=True))
    return reduce(torch.add, bottoms)


@register_layer("Eltwise", param="eltwise_param")
class Eltwise(Layer):
    """Combine all bottoms element by element: PROD, SUM (``coeff`` a bottom) or MAX."""

    bottoms = at_least(1)
    function = staticmethod(eltwise)

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
        self.operation = self.option_name("operation")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that all bottoms have one shape and return it."""
        for position, shape in enumerate(bottom_shapes):
            if shape != bottom_shapes[0]:
                raise self.error(
                    f"bottom {position} has shape {shape}",
                    expected=f"{bottom_shapes[0]}, that of bottom 0",
                )
        return [bottom_shapes[0]]
