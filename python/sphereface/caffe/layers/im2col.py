"""Im2col: the patches that a convolution would see, as channels.

Source: Caffe's im2col_layer.cpp. Of `convolution_param` it reads kernel, stride, pad, dilation and
axis, as there, for any number of spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.sliding_kernel import SlidingKernel

__all__ = ["Im2col"]


@register_layer("Im2col", param="convolution_param")
class Im2col(SlidingKernel):
    """Top (..., C * kernel..., output sizes...): channel first, then the place in the kernel."""

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (..., C * kernel..., output sizes...)."""
        shape = bottom_shapes[0]
        if len(shape) != self.axis + 1 + len(self.kernel):
            raise self.error(
                f"bottom of shape {shape}", expected=f"{len(self.kernel)} spatial axes"
            )
        sizes = self.checked_sizes(shape)
        return [(*shape[: self.axis], shape[self.axis] * prod(self.kernel), *sizes)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches."""
        axes, sizes = len(self.kernel), self.output_sizes(x.shape)
        patches = F.pad(x, [p for pad in reversed(self.pad) for p in (pad, pad)])
        for i in range(axes):
            # Split spatial axis i into (place in the kernel, output position).
            place = torch.arange(self.kernel[i], device=x.device) * self.dilation[i]
            position = torch.arange(sizes[i], device=x.device) * self.stride[i]
            axis = self.axis + 1 + 2 * i
            index = (place[:, None] + position).flatten()
            patches = patches.index_select(axis, index)
            patches = patches.unflatten(axis, (self.kernel[i], sizes[i]))
        first = self.axis + 1
        places = range(first, first + 2 * axes, 2)
        positions = range(first + 1, first + 2 * axes, 2)
        patches = patches.permute(*range(first), *places, *positions)
        return patches.flatten(self.axis, self.axis + axes)
