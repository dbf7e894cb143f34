"""PSROIPooling: each region's averages over a grid, each bin from maps of its own.

Source: psroi_pooling_layer.cu of R-FCN's Caffe fork (Dai et al., NIPS 2016, equation 1). What
differs: works on every device, the original on the GPU only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.regions import round_half_away
from sphereface.caffe.registry import register_layer

__all__ = ["PSROIPooling", "bin_weights", "psroi_pooling"]


def bin_weights(near: Tensor, far: Tensor, count: int, size: int, spatial_scale: float) -> Tensor:
    """Return the share that each position has in each bin, (regions, bins, size)."""
    start = (round_half_away(near) * spatial_scale)[:, None]
    end = ((round_half_away(far) + 1) * spatial_scale)[:, None]
    step = (end - start).clamp(min=0.1) / count
    place = torch.arange(count, dtype=near.dtype, device=near.device)
    first = (place * step + start).floor().clamp(0, size)[..., None]
    last = ((place + 1) * step + start).ceil().clamp(0, size)[..., None]
    position = torch.arange(size, dtype=near.dtype, device=near.device)
    inside = ((position >= first) & (position < last)).to(near.dtype)
    return inside / (last - first).clamp(min=1)


def psroi_pooling(
    x: Tensor, region: Tensor, *, output_dim: int, group: int, spatial_scale: float
) -> Tensor:
    """Return the averages, (regions, output_dim, group, group)."""
    region = region.reshape(-1, 5)
    height, width = x.shape[2], x.shape[3]
    rows = bin_weights(region[:, 2], region[:, 4], group, height, spatial_scale)
    columns = bin_weights(region[:, 1], region[:, 3], group, width, spatial_scale)
    number = torch.arange(x.shape[0], dtype=region.dtype, device=region.device)
    own = (region[:, :1] == number).to(region.dtype)  # (regions, N)
    maps = x.unflatten(1, (output_dim, group, group))
    bins = [
        torch.einsum("rn,rh,ndhw,rw->rd", own, rows[:, i], maps[:, :, i, j], columns[:, j])
        for i in range(group)
        for j in range(group)
    ]
    return torch.stack(bins, 2).unflatten(2, (group, group))


@register_layer("PSROIPooling", param="psroi_pooling_param")
class PSROIPooling(Layer):
    """Averages over ``group_size`` by ``group_size`` bins of each region.

    Bin (i, j) of top channel c is taken from bottom channel
    ``(c * group_size + i) * group_size + j``. Bottoms: maps (N, output_dim * group_size^2, H, W),
    and regions (R, 5): number of the image, x1, y1, x2, y2 in pixels, the last inside, which
    ``spatial_scale`` takes to positions of the map. Regions get no gradient.
    """

    bottoms = exactly(2)
    function = staticmethod(psroi_pooling)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the grid."""
        options = self.options
        self.output_dim, self.group = options.output_dim, options.group_size
        self.spatial_scale = options.spatial_scale
        if min(self.output_dim, self.group) < 1 or self.spatial_scale <= 0:
            raise self.error(
                f"output_dim {self.output_dim}, group_size {self.group},"
                f" spatial_scale {self.spatial_scale:g}",
                expected="all of them, positive",
            )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (R, output_dim, group_size, group_size)."""
        shape, region = bottom_shapes
        channels = self.output_dim * self.group**2
        if len(shape) != 4 or prod(region[1:]) != 5 or shape[1] != channels:
            raise self.error(
                f"bottoms of shapes {shape} and {region}",
                expected=f"(N, {channels}, H, W) and (R, 5)",
            )
        return [(region[0], self.output_dim, self.group, self.group)]

    def forward(self, x: Tensor, region: Tensor) -> Tensor:
        """Return the averages."""
        return self.compute(x, region.detach())
