"""Pooling: maximum, average or stochastic choice over windows of two spatial axes.

Source: Caffe's pooling_layer.cpp and .cu; stochastic pooling is Zeiler and Fergus, 2013. Output
sizes round up, and with padding the last window is dropped if it starts beyond the padded input.
Without padding it is kept even if it lies outside (kernel < stride): -FLT_MAX for MAX, and for AVE
0 divided by the window's size. AVE divides by the window clipped to the padded input. Stochastic
pooling, which Caffe has on the GPU only, works on every device; its random stream is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Pooling"]

_LOWEST = torch.finfo(torch.float32).min


@register_layer("Pooling", param="pooling_param")
class Pooling(Layer):
    """Pool height and width of a 4-D bottom.

    ``kernel_size`` or ``kernel_h``/``kernel_w``, or ``global_pooling``; ``stride`` (1), ``pad`` (0)
    in the same forms. Output size: ``ceil((size + 2 pad - kernel) / stride) + 1``. Second top of
    MAX: the index y * width + x of each maximum, as floats (of equal values the first).
    """

    tops = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read kernel, stride and pad."""
        options = self.options
        self.global_pooling = options.global_pooling
        self.stride = self._pair("stride", "stride")
        self.pad = self._pair("pad", "pad")
        self.method = (
            options.DESCRIPTOR.enum_types_by_name["PoolMethod"].values_by_number[options.pool].name
        )
        if self.global_pooling:
            if any(options.HasField(f) for f in ("kernel_size", "kernel_h", "kernel_w")):
                raise self.error("kernel size with global_pooling", expected="one of them")
            if self.stride != (1, 1) or self.pad != (0, 0):
                raise self.error(
                    f"stride {self.stride}, pad {self.pad} with global_pooling",
                    expected="stride 1, pad 0",
                )
            self.kernel = None
        else:
            self.kernel = self._pair("kernel", "kernel_size")
        self._check_options()

    def _pair(self, stem: str, name: str) -> tuple[int, int]:
        options, sides = self.options, (f"{stem}_h", f"{stem}_w")
        if not any(options.HasField(side) for side in sides):
            return (getattr(options, name),) * 2
        if options.HasField(name) or not all(options.HasField(side) for side in sides):
            raise self.error(
                f"{name}, {sides[0]} and {sides[1]} are mixed",
                expected=f"{name}, or both {sides[0]} and {sides[1]}",
            )
        return getattr(options, sides[0]), getattr(options, sides[1])

    def _check_options(self) -> None:
        if min(self.stride) < 1 or (self.kernel and min(self.kernel) < 1):
            raise self.error(f"kernel {self.kernel}, stride {self.stride}", expected="at least 1")
        if self.kernel and any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.error(f"pad {self.pad}", expected=f"less than the kernel {self.kernel}")
        if self.method == "STOCHASTIC" and max(self.pad) > 0:
            raise self.error(f"pad {self.pad}", expected="no padding for STOCHASTIC")
        if self.top_count == 2 and self.method != "MAX":
            raise self.error(f"two tops with pool: {self.method}", expected="one, or pool: MAX")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (N, C, pooled height, pooled width) for each top."""
        shape = bottom_shapes[0]
        if len(shape) != 4:
            raise self.error(f"bottom of shape {shape}", expected="4 axes (N, C, H, W)")
        sizes = self.output_size(shape[2:])
        if min(sizes) < 1:
            raise self.error(
                f"bottom of shape {shape} gives an output of {sizes}",
                expected=f"sizes that hold the kernel {self.kernel} with pad {self.pad}",
            )
        return [(*shape[:2], *sizes)] * self.top_count

    def output_size(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Return the pooled height and width."""
        if self.kernel is None:
            return 1, 1
        height, width = (
            # -(-a // b) is the quotient rounded up.
            -(-(size + 2 * pad - kernel) // stride)
            + 1
            - (max(self.pad) > 0 and -(-(size + 2 * pad - kernel) // stride) * stride >= size + pad)
            for size, pad, kernel, stride in zip(
                sizes, self.pad, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the pooled bottom, and the index of each maximum where the file asks for it."""
        kernel = self.kernel or (x.shape[2], x.shape[3])
        if self.method == "MAX":
            return self._max(x, kernel)
        if self.method == "AVE":
            return self._average(x, kernel)
        return self._stochastic(x, kernel)

    def _max(self, x: Tensor, kernel: tuple[int, int]) -> Tensor | tuple[Tensor, ...]:
        if any(2 * p > k for p, k in zip(self.pad, kernel, strict=True)):
            top, index = self._max_explicit(x, kernel)
        elif self.top_count == 1:
            top = F.max_pool2d(x, kernel, self.stride, self.pad, ceil_mode=True)
            return self._keep_outside(x, top, kernel, _LOWEST)
        else:
            top, index = F.max_pool2d(
                x, kernel, self.stride, self.pad, ceil_mode=True, return_indices=True
            )
        top = self._keep_outside(x, top, kernel, _LOWEST)
        if self.top_count == 1:
            return top
        return top, self._keep_outside(x, index.to(x.dtype), kernel, -1)

    def _max_explicit(self, x: Tensor, kernel: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Pool a copy padded by hand, for the pads beyond kernel / 2 that torch refuses."""
        (pad_h, pad_w), width = self.pad, x.shape[3]
        padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h), value=_LOWEST)
        height_out, width_out = self.output_size(x.shape[2:])
        top, index = F.max_pool2d(padded, kernel, self.stride, ceil_mode=True, return_indices=True)
        top, index = top[:, :, :height_out, :width_out], index[:, :, :height_out, :width_out]
        row, column = index // padded.shape[3] - pad_h, index % padded.shape[3] - pad_w
        return top, row * width + column

    def _average(self, x: Tensor, kernel: tuple[int, int]) -> Tensor:
        if all(2 * p <= k for p, k in zip(self.pad, kernel, strict=True)):
            top = F.avg_pool2d(x, kernel, self.stride, self.pad, ceil_mode=True)
            return self._mark_empty(x, self._keep_outside(x, top, kernel, 0))
        pad_h, pad_w = self.pad
        height_out, width_out = self.output_size(x.shape[2:])
        padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
        top = F.avg_pool2d(padded, kernel, self.stride, ceil_mode=True)
        return top[:, :, :height_out, :width_out]

    def _keep_outside(
        self, x: Tensor, top: Tensor, kernel: tuple[int, int], value: float
    ) -> Tensor:
        """Append the windows that lie outside the input, which torch drops and Caffe keeps."""
        if max(self.pad) > 0 or all(k >= s for k, s in zip(kernel, self.stride, strict=True)):
            return top
        height, width = self.output_size(x.shape[2:])
        return F.pad(top, (0, width - top.shape[3], 0, height - top.shape[2]), value=value)

    def _mark_empty(self, x: Tensor, top: Tensor) -> Tensor:
        """Make the averages NaN whose window begins right at the far edge: 0 divided by 0."""
        for axis, stride in zip((2, 3), self.stride, strict=True):
            last = top.shape[axis] - 1
            if max(self.pad) == 0 and last * stride == x.shape[axis]:
                shape = [last + 1 if i == axis else 1 for i in range(4)]
                mark = torch.zeros(last + 1, dtype=top.dtype, device=top.device)
                mark[last] = torch.nan
                top = top + mark.view(shape)
        return top

    def _stochastic(self, x: Tensor, kernel: tuple[int, int]) -> Tensor:
        height, width = self.output_size(x.shape[2:])
        far = [
            (out - 1) * s + k - size
            for out, s, k, size in zip(
                (height, width), self.stride, kernel, x.shape[2:], strict=True
            )
        ]
        # Zeros beyond the edge are never chosen and change no sum.
        padded = F.pad(x, (0, max(far[1], 0), 0, max(far[0], 0)))
        windows = padded.unfold(2, kernel[0], self.stride[0]).unfold(3, kernel[1], self.stride[1])
        windows = windows[:, :, :height, :width].flatten(4)  # (N, C, oh, ow, kh * kw)
        if not self.training:
            total = windows.sum(-1)
            return torch.where(total > 0, windows.square().sum(-1) / total, 0)
        with torch.no_grad():
            cumulative = windows.cumsum(-1)
            # In (0, 1], so that the choice always has a positive activation if there is one.
            share = 1 - torch.rand_like(cumulative[..., :1])
            reached = cumulative >= share * cumulative[..., -1:]
            chosen = reached.to(torch.uint8).argmax(-1, keepdim=True)
        return windows.gather(-1, chosen)[..., 0]
