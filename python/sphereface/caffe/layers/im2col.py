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

__all__ = ["Im2col", "im2col"]


def im2col(
    x: Tensor,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
    axis: int,
) -> Tensor:
    """Return the patches: channel first, then the place in the kernel."""
    patches = F.pad(x, [p for side in reversed(pad) for p in (side, side)])
    first = axis + 1
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        # Split spatial axis i into (place in the kernel, output position).
        split = first + 2 * i
        size = (patches.shape[split] - (d * (k - 1) + 1)) // s + 1
        place = torch.arange(k, device=x.device) * d
        position = torch.arange(size, device=x.device) * s
        patches = patches.index_select(split, (place[:, None] + position).flatten())
        patches = patches.unflatten(split, (k, size))
    end = first + 2 * len(kernel)
    patches = patches.permute(*range(first), *range(first, end, 2), *range(first + 1, end, 2))
    return patches.flatten(axis, axis + len(kernel))


@register_layer("Im2col", param="convolution_param")
class Im2col(SlidingKernel):
    """Top (..., C * kernel..., output sizes...): channel first, then the place in the kernel."""

    function = staticmethod(im2col)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (..., C * kernel..., output sizes...)."""
        shape = bottom_shapes[0]
        if len(shape) != self.axis + 1 + len(self.kernel):
            raise self.error(
                f"bottom of shape {shape}", expected=f"{len(self.kernel)} spatial axes"
            )
        sizes = self.checked_sizes(shape)
        return [(*shape[: self.axis], shape[self.axis] * prod(self.kernel), *sizes)]
