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

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.convolution import spatial_option
from sphereface.caffe.registry import register_layer

__all__ = ["Im2col"]


@register_layer("Im2col", param="convolution_param")
class Im2col(Layer):
    """Top (..., C * kernel..., output sizes...): channel first, then the place in the kernel."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read kernel, stride, pad and dilation."""
        options = self.options
        self.axis = self.canonical_axis(options.axis, bottom_shapes[0])
        axes = len(bottom_shapes[0]) - self.axis - 1
        if axes < 1:
            raise self.error(
                f"bottom of shape {bottom_shapes[0]}",
                expected=f"spatial axes after the channel axis {self.axis}",
            )
        self.kernel = spatial_option(self, options, axes, "kernel_size", "kernel", None)
        self.stride = spatial_option(self, options, axes, "stride", "stride", 1)
        self.pad = spatial_option(self, options, axes, "pad", "pad", 0)
        self.dilation = spatial_option(self, options, axes, "dilation", "", 1)
        for name in ("kernel", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise self.error(f"{name} {getattr(self, name)}", expected="at least 1")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (..., C * kernel..., output sizes...)."""
        shape = bottom_shapes[0]
        if len(shape) != self.axis + 1 + len(self.kernel):
            raise self.error(
                f"bottom of shape {shape}", expected=f"{len(self.kernel)} spatial axes"
            )
        sizes = self.output_sizes(shape)
        if min(sizes) < 1:
            raise self.error(
                f"bottom of shape {shape} gives an output of {sizes}",
                expected=f"sizes that hold the kernel {self.kernel} with pad {self.pad}"
                f" and dilation {self.dilation}",
            )
        return [(*shape[: self.axis], shape[self.axis] * prod(self.kernel), *sizes)]

    def output_sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the number of places of the kernel on each spatial axis."""
        return tuple(
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                shape[self.axis + 1 :],
                self.kernel,
                self.stride,
                self.pad,
                self.dilation,
                strict=True,
            )
        )

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
