"""Upsample and MaxUnpooling: values back to where maximum pooling found them, or repeated.

Source: upsample_layer.cpp of SegNet's Caffe fork, unpooling_layer.cpp of DeconvNet's (Noh et al.,
ICCV 2015); with one bottom the Upsample of darknet's ports. What differs: a mask beyond the top is
an error in all of them, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["MaxUnpooling", "Upsample", "upsample"]


def upsample(
    x: Tensor,
    mask: Tensor | None = None,
    *,
    scale: tuple[int, int],
    shift: tuple[int, int],
    sizes: tuple[int, int] | None,
) -> Tensor:
    """Return x repeated, or with a mask zeros with each value of x at its index in its channel."""
    if mask is None:
        return x.repeat_interleave(scale[0], 2).repeat_interleave(scale[1], 3)
    height, width = sizes or (
        x.shape[2] * scale[0] + shift[0],
        x.shape[3] * scale[1] + shift[1],
    )
    blank = x.new_zeros((x.shape[0], x.shape[1], height * width))
    filled = blank.scatter(2, mask.flatten(2).long(), x.flatten(2))
    return filled.unflatten(2, (height, width))


class Unpooled(Layer):
    """Base of both: a top of ``sizes``, or of the bottom's times `scale` plus `shift`."""

    function = staticmethod(upsample)

    scale: tuple[int, int]
    shift: tuple[int, int]
    sizes: tuple[int, int] | None

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the mask; return the larger shape."""
        shape = bottom_shapes[0]
        if len(shape) != 4 or any(other != shape for other in bottom_shapes):
            raise self.error(
                f"bottoms of shapes {list(bottom_shapes)}", expected="equal shapes of 4 axes"
            )
        sizes = self.sizes or [
            size * scale + shift
            for size, scale, shift in zip(shape[2:], self.scale, self.shift, strict=True)
        ]
        if min(sizes) < 1:
            raise self.error(f"a top of {sizes}", expected="sizes of at least 1")
        return [(*shape[:2], *sizes)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Check the mask, where that costs no synchronisation."""
        if mask is None:
            return self.compute(x)
        if mask.device.type == "cpu" and not torch.compiler.is_compiling() and mask.numel():
            (shape,) = self.reshape([tuple(x.shape), tuple(mask.shape)])
            least, most = mask.min().item(), mask.max().item()
            if least < 0 or most >= shape[2] * shape[3]:
                raise self.error(
                    f"indices from {least:g} to {most:g} in the mask",
                    expected=f"0 to {shape[2] * shape[3] - 1}, for a top of {shape[2:]}",
                )
        return self.compute(x, mask.detach())


def _pair(options: Any, name: str, sides: tuple[str, str], default: int) -> tuple[int, int]:
    if any(options.HasField(side) for side in sides):
        return getattr(options, sides[0]), getattr(options, sides[1])
    value = getattr(options, name) if options.HasField(name) else default
    return value, value


@register_layer("Upsample", param="upsample_param")
class Upsample(Unpooled):
    """Second bottom: the mask, which is the second top of the Pooling that is undone.

    Top: ``upsample_h`` by ``upsample_w``, or the bottom's size times ``scale`` (2) or ``scale_h``
    and ``scale_w``, one less with ``pad_out_h`` and ``pad_out_w``. Without a mask every value is
    repeated ``scale`` (1) times in both directions.
    """

    bottoms = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the size."""
        options, masked = self.options, len(bottom_shapes) == 2
        self.scale = _pair(options, "scale", ("scale_h", "scale_w"), 2 if masked else 1)
        self.shift, self.sizes = (-int(options.pad_out_h), -int(options.pad_out_w)), None
        if options.HasField("upsample_h") or options.HasField("upsample_w"):
            self.sizes = (options.upsample_h, options.upsample_w)
        if min(self.scale) < 1:
            raise self.error(f"scale {self.scale}", expected="at least 1")
        if not masked and (self.sizes or min(self.shift) < 0):
            raise self.error(
                "a size of the top without a mask", expected="scale, or a mask as second bottom"
            )


@register_layer("MaxUnpooling", param="unpooling_param")
@register_layer("Unpooling", param="unpooling_param")
class MaxUnpooling(Unpooled):
    """Second bottom: the mask of the Pooling that is undone.

    Top: ``unpool_size`` or ``unpool_h`` by ``unpool_w``, or what a pooling of ``kernel_size``,
    ``stride`` and ``pad`` would have seen: ``(size - 1) stride + kernel - 2 pad``. They may stand
    in ``pooling_param`` too.
    """

    bottoms = exactly(2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read kernel, stride and pad."""
        pooling = self.layer_param.pooling_param
        alone = self.layer_param.HasField("pooling_param") and not self.options.ListFields()
        options = pooling if alone else self.options
        if self.option_name("unpool") != "MAX" or pooling.pool != pooling.MAX:
            method = self.option_name("unpool")
            other = "a pooling that is not MAX" if method == "MAX" else f"unpool: {method}"
            raise self.error(other, expected="unpool: MAX")
        kernel = _pair(options, "kernel_size", ("kernel_h", "kernel_w"), 0)
        self.scale = _pair(options, "stride", ("stride_h", "stride_w"), 1)
        pad = _pair(options, "pad", ("pad_h", "pad_w"), 0)
        sizes = _pair(self.options, "unpool_size", ("unpool_h", "unpool_w"), 0)
        self.sizes = sizes if min(sizes) > 0 else None
        if min(self.scale) < 1 or (self.sizes is None and min(kernel) < 1):
            raise self.error(f"kernel {kernel}, stride {self.scale}", expected="at least 1")
        self.shift = (
            kernel[0] - 2 * pad[0] - self.scale[0],
            kernel[1] - 2 * pad[1] - self.scale[1],
        )
