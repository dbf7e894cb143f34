"""Convolution: y = W * x + b, a cross-correlation over the axes after `axis`.

Source: Caffe's base_conv_layer.cpp and conv_layer.cpp; DepthwiseConvolution is a third-party layer
of mobile nets (Convolution with a group a channel), Convolution3D that of C3D (Tran et al., ICCV
2015), ConvolutionRistretto that of Ristretto (Gysel, 2016), which is run in full precision,
HoleConvolution, whose dilation is called ``hole``, that of PSPNet's fork before it had dilation.
`engine` and `force_nd_im2col` choose between implementations in Caffe and mean nothing here. At
most three spatial axes, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.sliding_kernel import SlidingKernel

__all__ = ["Convolution", "Convolution3D", "DepthwiseConvolution", "convolution"]

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolution(
    *bottoms: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
    group: int,
    axis: int,
    convolve: Callable[..., Tensor],
) -> Tensor | tuple[Tensor, ...]:
    """Return the convolution of each bottom, whose channels are on `axis`, by ``F.conv2d`` etc."""
    if len(bottoms) == 1 and axis == 1:
        return convolve(bottoms[0], weight, bias, stride, pad, dilation, group)
    tops = []
    for x in bottoms:
        images = x if axis == 1 else x.reshape(-1, *x.shape[axis:])
        y = convolve(images, weight, bias, stride, pad, dilation, group)
        tops.append(y if axis == 1 else y.reshape(*x.shape[:axis], *y.shape[1:]))
    return tops[0] if len(tops) == 1 else tuple(tops)


@register_layer("Convolution", param="convolution_param")
@register_layer("ConvolutionRistretto", param="convolution_param")
@register_layer("HoleConvolution", param="convolution_param")
class Convolution(SlidingKernel):
    """Convolve each bottom into its top.

    Blobs: ``weight`` (num_output, C / group, kernel...), ``bias`` (num_output,) unless
    ``bias_term: false``. Output size of an axis:
    ``(size + 2 pad - (dilation (kernel - 1) + 1)) / stride + 1``, rounded down.
    """

    bottoms = at_least(1)
    tops = at_least(1)
    equal_counts = True
    function = staticmethod(convolution)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read kernel, stride, pad and dilation and create weight and bias."""
        super().setup(bottom_shapes)
        axes = len(self.kernel)
        if axes not in _CONVOLUTIONS:
            raise self.error(
                f"{axes} spatial axes in a bottom of shape {bottom_shapes[0]}",
                expected="1 to 3 axes after the channel axis",
            )
        self.channels = bottom_shapes[0][self.axis]
        self.group = self.group_count()
        self.num_output = self.output_count()
        if self.num_output < 1:
            raise self.error(f"num_output {self.num_output}", expected="at least 1")
        for name, value in (("num_output", self.num_output), ("bottom channels", self.channels)):
            if value < 1 or value % self.group:
                raise self.error(
                    f"{name} {value} with group {self.group}", expected="a multiple of group"
                )
        self.convolve = _CONVOLUTIONS[axes]
        self.add_blob("weight", self.weight_shape(), self.options.weight_filler)
        if self.options.bias_term:
            self.add_blob("bias", (self.num_output,), self.options.bias_filler)
        else:
            self.bias = None

    def output_count(self) -> int:
        """Return the number of output channels."""
        return self.options.num_output

    def group_count(self) -> int:
        """Return the number of groups that channels and outputs are split into."""
        if self.options.group < 1:
            raise self.error(f"group {self.options.group}", expected="at least 1")
        return self.options.group

    def weight_shape(self) -> Shape:
        """Return (num_output, C / group, kernel...)."""
        return (self.num_output, self.channels // self.group, *self.kernel)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms and return (..., num_output, sizes...) for each."""
        tops = []
        for shape in bottom_shapes:
            if len(shape) != self.axis + 1 + len(self.kernel) or shape[self.axis] != self.channels:
                raise self.error(
                    f"bottom of shape {shape}",
                    expected=f"{self.channels} channels on axis {self.axis} "
                    f"and {len(self.kernel)} spatial axes",
                )
            tops.append((*shape[: self.axis], self.num_output, *self.checked_sizes(shape)))
        return tops


@register_layer("DepthwiseConvolution", param="convolution_param")
@register_layer("ConvolutionDepthwise", param="convolution_param")
class DepthwiseConvolution(Convolution):
    """Convolution whose group is the number of channels, written or not, as ``num_output`` is."""

    def output_count(self) -> int:
        """Return ``num_output``, the number of channels if it is not written."""
        return self.options.num_output if self.options.HasField("num_output") else self.channels

    def group_count(self) -> int:
        """Return the number of channels."""
        if self.options.HasField("group") and self.options.group != self.channels:
            raise self.error(
                f"group {self.options.group}", expected=f"{self.channels}, the bottom's channels"
            )
        return self.channels


@register_layer("Convolution3D", param="convolution_param")
class Convolution3D(Convolution):
    """Convolution over length, height and width of bottoms (N, C, L, H, W).

    ``kernel_size``, ``stride`` and ``pad`` are those of height and width, ``kernel_depth``,
    ``temporal_stride`` and ``temporal_pad`` those of the length.
    """

    def spatial(self, axes: int, name: str, short: str, default: int | None) -> tuple[int, ...]:
        """Return an option of the length, and that of height and width."""
        if axes != 3:
            raise self.error(f"{axes} axes after the channels", expected="length, height, width")
        depth = {"kernel_size": "kernel_depth", "stride": "temporal_stride", "pad": "temporal_pad"}
        along = getattr(self.options, depth[name]) if name in depth else 1
        return (along, *super().spatial(2, name, short, default))

    def check_depth(self) -> None:
        """Allow it."""
