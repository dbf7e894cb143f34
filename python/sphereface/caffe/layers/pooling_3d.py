"""Pooling3D: maximum or average over windows of length, height and width.

Source: pooling3d_layer.cpp of C3D's Caffe fork (Tran et al., ICCV 2015). What differs: windows that
would lie outside of the bottom (a kernel smaller than its stride) and stochastic pooling are
refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Pooling3D", "pooling_3d"]


def pooling_3d(
    x: Tensor,
    *,
    method: str,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    pad: tuple[int, int, int],
) -> Tensor:
    """Return maxima, or averages over windows that are clipped to the padded input."""
    if method == "MAX":
        return F.max_pool3d(x, kernel, stride, pad, ceil_mode=True)
    return F.avg_pool3d(x, kernel, stride, pad, ceil_mode=True)


@register_layer("Pooling3D", param="pooling_param")
class Pooling3D(Layer):
    """Pool length, height and width of a bottom (N, C, L, H, W).

    ``kernel_size``, ``stride`` and ``pad`` are those of height and width, ``kernel_depth``,
    ``temporal_stride`` and ``temporal_pad`` those of the length. Sizes are rounded up.
    """

    function = staticmethod(pooling_3d)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read kernel, stride and pad."""
        options = self.options
        self.method = self.option_name("pool")
        self.kernel = (options.kernel_depth, options.kernel_size, options.kernel_size)
        self.stride = (options.temporal_stride, options.stride, options.stride)
        self.pad = (options.temporal_pad, options.pad, options.pad)
        if self.method == "STOCHASTIC":
            raise self.error("pool: STOCHASTIC", expected="MAX or AVE")
        if min(self.stride) < 1:
            raise self.error(f"stride {self.stride}", expected="at least 1")
        if any(k < s for k, s in zip(self.kernel, self.stride, strict=True)):
            raise self.error(
                f"kernel {self.kernel} with stride {self.stride}",
                expected="kernels at least as large as their strides",
            )
        if any(2 * p > k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.error(f"pad {self.pad}", expected=f"at most half of {self.kernel}")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (N, C, pooled length, height, width)."""
        shape = bottom_shapes[0]
        if len(shape) != 5:
            raise self.error(f"bottom of shape {shape}", expected="5 axes (N, C, L, H, W)")
        sizes = map(self._pooled, shape[2:], self.kernel, self.stride, self.pad)
        top = (*shape[:2], *sizes)
        if min(top[2:]) < 1:
            raise self.error(
                f"bottom of shape {shape} gives {top}",
                expected=f"sizes that hold the kernel {self.kernel}",
            )
        return [top]

    @staticmethod
    def _pooled(size: int, kernel: int, stride: int, pad: int) -> int:
        # -(-a // b) is the quotient rounded up.
        count = -(-(size + 2 * pad - kernel) // stride) + 1
        return count - ((count - 1) * stride >= size + pad)
