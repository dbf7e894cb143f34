"""Deconvolution: the transpose of Convolution, with its options; bilinear upsampling is one.

Source: Caffe's deconv_layer.cpp. What differs: as for Convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.convolution import Convolution
from sphereface.caffe.registry import register_layer

__all__ = ["Deconvolution", "deconvolve"]

_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def deconvolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
    group: int,
) -> Tensor:
    """Do what ``F.conv2d`` and its like do, transposed."""
    return _TRANSPOSED[len(stride)](x, weight, bias, stride, pad, 0, group, dilation)


@register_layer("Deconvolution", param="convolution_param")
class Deconvolution(Convolution):
    """Each value of a bottom adds a multiple of the kernel to its top.

    Blobs: ``weight`` (C, num_output / group, kernel...), ``bias`` (num_output,) unless
    ``bias_term: false``. Output size of an axis:
    ``stride (size - 1) + dilation (kernel - 1) + 1 - 2 pad``.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options as Convolution does; only the operation is another."""
        super().setup(bottom_shapes)
        self.convolve = deconvolve

    def weight_shape(self) -> Shape:
        """Return (C, num_output / group, kernel...)."""
        return (self.channels, self.num_output // self.group, *self.kernel)

    def output_size(self, size: int, axis: int) -> int:
        """Return the output size of spatial axis `axis`."""
        extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return self.stride[axis] * (size - 1) + extent - 2 * self.pad[axis]
