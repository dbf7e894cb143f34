"""ROIPooling: each region's maxima over a grid of bins.

Source: roi_pooling_layer.cpp of Fast R-CNN's Caffe fork (Girshick, ICCV 2015, section 2.1). Bounds
of bins are computed in float32, so that a last bin may reach one position beyond its region, as
there. ``pad_ratio`` is MS-CNN's (Cai et al., ECCV 2016). What differs: nothing. The bins depend on
values: torch.compile breaks the graph here, and torch.export refuses the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Shape
from sphereface.caffe.regions import round_half_away
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import ValueLoop

__all__ = ["ROIPooling", "largest", "pool_regions", "region_bins"]


def region_bins(near: Tensor, far: Tensor, count: int, size: int) -> list[list[tuple[int, int]]]:
    """Return the bins' first and last positions + 1, for each region from `near` to `far`."""
    step = (far - near + 1).clamp(min=1)[:, None] / count
    place = torch.arange(count + 1, dtype=torch.float32, device=near.device)
    start = ((place[:-1] * step).floor() + near[:, None]).clamp(0, size)
    end = ((place[1:] * step).ceil() + near[:, None]).clamp(0, size)
    return torch.stack([start, end], 2).long().tolist()


def largest(x: Tensor, axis: int) -> Tensor:
    """Return the maxima over an axis; of equal ones the first has the gradient."""
    # amax is ten times as fast, and shares its gradient.
    return x.max(axis).values if x.requires_grad else x.amax(axis)


def pool_regions(
    x: Tensor,
    region: Tensor,
    *,
    pooled: tuple[int, int],
    spatial_scale: float,
    pad_ratio: float = 0.0,
) -> Tensor:
    """Return the maxima, (regions, C, pooled height, pooled width); 0 for bins of no position."""
    region = region.reshape(-1, 5).float()
    corner = region[:, 1:]
    if pad_ratio:
        margin = (corner[:, 2:] - corner[:, :2] + 1) * pad_ratio
        corner = corner + torch.cat([-margin, margin], 1)
    corner = round_half_away(corner * spatial_scale)
    rows = region_bins(corner[:, 1], corner[:, 3], pooled[0], x.shape[2])
    columns = region_bins(corner[:, 0], corner[:, 2], pooled[1], x.shape[3])
    maps = x.permute(0, 2, 3, 1).contiguous()  # channels last: a position is one piece of memory
    empty = x.new_zeros(())
    found = []
    for image, vertical, horizontal in zip(region[:, 0].long(), rows, columns, strict=True):
        near, far = vertical[0][0], vertical[-1][1]
        part = maps[image, near:far]
        # Columns first, so that of equal maxima the first in reading order has the gradient.
        strips = [
            largest(part[:, start:end], 1) if end > start else empty.expand(len(part), x.shape[1])
            for start, end in horizontal
        ]
        wide = torch.stack(strips, 1)  # (rows, pooled width, C)
        found += [
            largest(wide[start - near : end - near], 0)
            if end > start
            else empty.expand(pooled[1], x.shape[1])
            for start, end in vertical
        ]
    if not found:
        return x.new_zeros((0, x.shape[1], *pooled))
    return torch.stack(found).unflatten(0, (-1, pooled[0])).permute(0, 3, 1, 2)


@register_layer("ROIPooling", param="roi_pooling_param")
class ROIPooling(ValueLoop):
    """Maxima over ``pooled_h`` by ``pooled_w`` bins of each region.

    Bottoms: the feature map, and regions (R, 5): number of the image, x1, y1, x2, y2 in pixels, the
    last inside, which ``spatial_scale`` takes to positions of the map. ``pad_ratio`` widens them
    first, on each side by that share of their width and height.
    """

    bottoms = exactly(2)
    gradient = True
    function = staticmethod(pool_regions)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the grid."""
        self.pooled = (self.options.pooled_h, self.options.pooled_w)
        self.spatial_scale, self.pad_ratio = self.options.spatial_scale, self.options.pad_ratio
        if min(self.pooled) < 1:
            raise self.error(f"pooled_h and pooled_w {self.pooled}", expected="at least 1")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (R, C, pooled_h, pooled_w)."""
        shape, region = bottom_shapes
        if len(shape) != 4 or prod(region[1:]) != 5:
            raise self.error(
                f"bottoms of shapes {shape} and {region}", expected="(N, C, H, W) and (R, 5)"
            )
        return [(region[0], shape[1], *self.pooled)]
