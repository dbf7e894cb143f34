"""ArgMax: the indices (or values) of the top_k largest scores.

Source: Caffe's argmax_layer.cpp, with its three output layouts. Of equal scores the larger index
comes first. Not differentiable. What differs: half-precision scores give a float32 top, because
their own type cannot hold every index; a NaN comes before every number, where Caffe's partial_sort
gives ranks by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["ArgMax", "argmax"]


@torch.no_grad()
def argmax(x: Tensor, *, top_k: int, out_max_val: bool, axis: int | None) -> Tensor:
    """Return the indices (or values, or both) of the largest; of equal ones the larger first."""
    rows = x.reshape(x.shape[0], -1) if axis is None else x.movedim(axis, -1)
    # Reversed, a stable sort puts the larger of two equal scores' indices first.
    values, places = rows.flip(-1).sort(dim=-1, descending=True, stable=True)
    values = values[..., :top_k]
    indices = rows.shape[-1] - 1 - places[..., :top_k]
    indices = indices.to(torch.promote_types(x.dtype, torch.float32))
    if axis is not None:
        return (values if out_max_val else indices).movedim(-1, axis)
    layout = torch.stack((indices, values) if out_max_val else (indices,), 1)
    return layout.reshape(layout.shape + (1,) * (x.dim() - 3))


@register_layer("ArgMax", param="argmax_param")
class ArgMax(Layer):
    """The ``top_k`` best, in descending order.

    With ``axis``, that axis has size top_k in the top: indices, or with ``out_max_val`` values.
    Without it, the scores of a sample are all its values, and the top is (N, 1, top_k) of indices,
    or with ``out_max_val`` (N, 2, top_k): indices, then values; as many further axes of size 1
    follow as the bottom has.
    """

    function = staticmethod(argmax)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        options = self.options
        self.axis = options.axis if options.HasField("axis") else None
        self.top_k, self.out_max_val = options.top_k, options.out_max_val

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check top_k and return the layout."""
        shape = bottom_shapes[0]
        axis = self.canonical_axis(0 if self.axis is None else self.axis, shape)
        scores = prod(shape[1:]) if self.axis is None else shape[axis]
        if not 1 <= self.top_k <= scores:
            raise self.error(
                f"top_k {self.top_k} for a bottom of shape {shape}", expected=f"1 to {scores}"
            )
        if self.axis is not None:
            return [(*shape[:axis], self.top_k, *shape[axis + 1 :])]
        return [(shape[0], 1 + self.out_max_val, self.top_k) + (1,) * (len(shape) - 3)]
