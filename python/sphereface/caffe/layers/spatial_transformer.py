"""SpatialTransformer: images seen through an affine map that the net finds.

Source: st_layer.cpp of Kaichun Mo's Caffe fork (Jaderberg et al., NIPS 2015, section 3). What
differs: on a position of the bottom itself the gradient of theta is that towards the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["SpatialTransformer", "spatial_transformer"]


def spatial_transformer(
    x: Tensor, theta: Tensor, *, size: tuple[int, int], fixed: tuple[float | None, ...]
) -> Tensor:
    """Return x sampled where theta takes the positions of the top; 0 beyond x."""
    height, width = size
    row = torch.arange(height, device=x.device, dtype=x.dtype) * (2 / height) - 1
    column = torch.arange(width, device=x.device, dtype=x.dtype) * (2 / width) - 1
    place = torch.stack(
        torch.broadcast_tensors(row[:, None], column, torch.ones_like(column)), 2
    ).flatten(0, 1)
    given = iter(theta.flatten(1).unbind(1))
    values = [next(given) if v is None else torch.full_like(x[:, 0, 0, 0], v) for v in fixed]
    matrix = torch.stack(values, 1).unflatten(1, (2, 3))
    # Rows first; -1 is the first position, and 1 one behind the last.
    to = place @ matrix.transpose(1, 2) + x.new_tensor([1 / x.shape[2], 1 / x.shape[3]])
    grid = to.flip(2).unflatten(1, size)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@register_layer("SpatialTransformer", param="st_param")
class SpatialTransformer(Layer):
    """Bilinear samples of the bottom, (N, C, output_H, output_W).

    Bottoms: x (N, C, H, W); theta (N, 6), the rows of a 2 x 3 matrix that takes (row, column, 1) of
    the top to row and column of x, both in -1 (the first) to 1 (one behind the last). Of theta
    ``theta_1_1`` to ``theta_2_3`` are what the file says, and not in the bottom.
    ``to_compute_dU: false``: x gets no gradient.
    """

    bottoms = exactly(2)
    function = staticmethod(spatial_transformer)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the size and what of theta is fixed."""
        options, shape = self.options, bottom_shapes[0]
        for field, known in (("transform_type", "affine"), ("sampler_type", "bilinear")):
            if getattr(options, field) != known:
                raise self.error(f'{field} "{getattr(options, field)}"', expected=f'"{known}"')
        if len(shape) != 4:
            raise self.error(f"bottom of shape {shape}", expected="(N, C, H, W)")
        self.size = (options.output_H or shape[2], options.output_W or shape[3])
        names = [f"theta_{i}_{j}" for i in (1, 2) for j in (1, 2, 3)]
        self.fixed = tuple(
            getattr(options, name) if options.HasField(name) else None for name in names
        )
        self.moves = options.to_compute_dU

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that theta has what is not fixed."""
        shape, theta = bottom_shapes
        free = self.fixed.count(None)
        if theta[:1] != shape[:1] or prod(theta[1:]) != free or not free:
            raise self.error(
                f"theta of shape {theta} for x of shape {shape}",
                expected=f"({shape[0]}, {free}), with {6 - free} of 6 values in the file",
            )
        return [(*shape[:2], *self.size)]

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        """Sample x."""
        top: Tensor = self.compute(x if self.moves else x.detach(), theta)
        return top
