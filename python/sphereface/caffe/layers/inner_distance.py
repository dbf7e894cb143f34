"""InnerDistance: distances of every row to every row of a weight.

Source: inner_distance_layer.cpp of NormFace's Caffe fork. What differs: L2 is computed by one
matrix product, so distances that are small beside the norms lose digits, down to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["InnerDistance", "inner_distance"]


def inner_distance(
    x: Tensor, rows: Tensor | None = None, *, weight: Tensor, axis: int, distance_type: str
) -> Tensor:
    """Return the distances of the rows of x to those of the second bottom, or of the blob."""
    rows = weight if rows is None else rows.flatten(1)
    y = x.reshape(-1, rows.shape[1])  # (M, K)
    if distance_type == "L1":
        wide = torch.promote_types(x.dtype, torch.float32)  # all that cdist knows
        y = torch.cdist(y.to(wide), rows.to(wide), p=1).to(x.dtype)
    else:
        squares = y.square().sum(1, keepdim=True) + rows.square().sum(1)
        y = (squares - 2 * y @ rows.t()).clamp(min=0)
    return y.reshape(*x.shape[:axis], rows.shape[0])


@register_layer("InnerDistance", param="inner_distance_param")
class InnerDistance(Layer):
    """``distance_type`` "L2": ``y_ij = |x_i - w_j|^2``; "L1": ``sum |x_i - w_j|``.

    Bottoms: x, flattened from `axis` on to K features; optionally the weight. Blob: ``weight``
    (N, K) where it is no bottom.
    """

    bottoms = Arity(1, 2)
    function = staticmethod(inner_distance)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the weight for the sizes of the first bottom."""
        options = self.options
        self.axis = self.canonical_axis(options.axis, bottom_shapes[0])
        self.in_features = prod(bottom_shapes[0][self.axis :])
        self.distance_type = options.distance_type
        if self.distance_type not in ("L1", "L2"):
            raise self.error(f'distance_type "{self.distance_type}"', expected='"L1" or "L2"')
        if len(bottom_shapes) == 2:
            self.weight = None  # type: ignore[assignment] # a bottom is it
        else:
            if options.num_output < 1:
                raise self.error(f"num_output {options.num_output}", expected="at least 1")
            self.add_blob("weight", (options.num_output, self.in_features), options.weight_filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check K and return bottom[:axis] + (N,)."""
        shape = bottom_shapes[0]
        weight = bottom_shapes[1] if len(bottom_shapes) == 2 else tuple(self.weight.shape)
        count = prod(shape[self.axis :])
        if count != prod(weight[1:]):
            raise self.error(
                f"bottom of shape {shape} has {count} values from axis {self.axis} on",
                expected=f"{prod(weight[1:])}, those of a row of the weight of shape {weight}",
            )
        return [(*shape[: self.axis], weight[0])]
