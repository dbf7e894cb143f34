"""Pooling: maximum, average or stochastic choice over windows of two spatial axes.

Source: Caffe's pooling_layer.cpp and .cu; stochastic pooling is Zeiler and Fergus, 2013. Output
sizes round up unless the file says ``round_mode: FLOOR`` (forks: ``ceil_mode: false``), and with
padding the last window is dropped if it starts beyond the padded input.
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

__all__ = [
    "LOWEST",
    "Pooling",
    "average_pool",
    "keep_outside",
    "max_pool",
    "pooled_size",
    "pooling",
    "stochastic_pool",
    "wide_pad",
    "windows_outside",
]

LOWEST = torch.finfo(torch.float32).min
"""What MAX gives a window outside of the input."""


def pooled_size(
    sizes: Sequence[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil_mode: bool,
) -> tuple[int, int]:
    """Return the pooled height and width."""
    if not ceil_mode:
        height, width = (
            (size + 2 * p - k) // s + 1
            for size, k, s, p in zip(sizes, kernel, stride, pad, strict=True)
        )
        return height, width
    height, width = (
        # -(-a // b) is the quotient rounded up.
        -(-(size + 2 * p - k) // s)
        + 1
        - (max(pad) > 0 and -(-(size + 2 * p - k) // s) * s >= size + p)
        for size, k, s, p in zip(sizes, kernel, stride, pad, strict=True)
    )
    return height, width


def wide_pad(kernel: tuple[int, int], pad: tuple[int, int]) -> bool:
    """Tell whether the padding is one that torch refuses, beyond half of the kernel."""
    return 2 * pad[0] > kernel[0] or 2 * pad[1] > kernel[1]


def windows_outside(
    kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], ceil_mode: bool
) -> bool:
    """Tell whether windows can lie outside the input, which torch drops and Caffe keeps."""
    smaller = kernel[0] < stride[0] or kernel[1] < stride[1]
    return smaller and ceil_mode and max(pad) == 0


def keep_outside(
    x: Tensor,
    top: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil_mode: bool,
    value: float,
) -> Tensor:
    """Append the windows outside the input, with `value`."""
    if not windows_outside(kernel, stride, pad, ceil_mode):
        return top
    height, width = pooled_size(x.shape[2:], kernel, stride, pad, ceil_mode)
    return F.pad(top, (0, width - top.shape[3], 0, height - top.shape[2]), value=value)


def max_pool(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil_mode: bool,
) -> tuple[Tensor, Tensor]:
    """Return the maxima, and the index of each in its image."""
    if not wide_pad(kernel, pad):
        top, index = F.max_pool2d(x, kernel, stride, pad, 1, ceil_mode, return_indices=True)
        top = keep_outside(x, top, kernel, stride, pad, ceil_mode, LOWEST)
        return top, keep_outside(x, index.to(x.dtype), kernel, stride, pad, ceil_mode, -1)
    padded = F.pad(x, (pad[1], pad[1], pad[0], pad[0]), value=LOWEST)
    height, width = pooled_size(x.shape[2:], kernel, stride, pad, ceil_mode)
    top, index = F.max_pool2d(padded, kernel, stride, ceil_mode=True, return_indices=True)
    top, index = top[:, :, :height, :width], index[:, :, :height, :width]
    row, column = index // padded.shape[3] - pad[0], index % padded.shape[3] - pad[1]
    return top, (row * x.shape[3] + column).to(x.dtype)


def average_pool(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil_mode: bool,
) -> Tensor:
    """Return the averages over windows that are clipped to the padded input."""
    if wide_pad(kernel, pad):
        height, width = pooled_size(x.shape[2:], kernel, stride, pad, ceil_mode)
        padded = F.pad(x, (pad[1], pad[1], pad[0], pad[0]))
        return F.avg_pool2d(padded, kernel, stride, ceil_mode=True)[:, :, :height, :width]
    top = F.avg_pool2d(x, kernel, stride, pad, ceil_mode)
    top = keep_outside(x, top, kernel, stride, pad, ceil_mode, 0)
    for axis in (2, 3):
        # The average of a window that begins right at the far edge is NaN: 0 divided by 0.
        last = top.shape[axis] - 1
        if max(pad) == 0 and last * stride[axis - 2] == x.shape[axis]:
            mark = torch.zeros(last + 1, dtype=top.dtype, device=top.device)
            mark[last] = torch.nan
            top = top + mark.view([last + 1 if i == axis else 1 for i in range(4)])
    return top


def stochastic_pool(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], ceil_mode: bool, training: bool
) -> Tensor:
    """Return a value of each window, chosen by its size; in testing their weighted mean."""
    height, width = pooled_size(x.shape[2:], kernel, stride, (0, 0), ceil_mode)
    far = [
        (out - 1) * s + k - size
        for out, s, k, size in zip((height, width), stride, kernel, x.shape[2:], strict=True)
    ]
    # Zeros beyond the edge are never chosen and change no sum.
    padded = F.pad(x, (0, max(far[1], 0), 0, max(far[0], 0)))
    windows = padded.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    windows = windows[:, :, :height, :width].flatten(4)  # (N, C, oh, ow, kh * kw)
    if not training:
        total = windows.sum(-1)
        return torch.where(total > 0, windows.square().sum(-1) / total, 0)
    with torch.no_grad():
        cumulative = windows.cumsum(-1)
        # In (0, 1], so that the choice always has a positive activation if there is one.
        share = 1 - torch.rand_like(cumulative[..., :1])
        reached = cumulative >= share * cumulative[..., -1:]
        chosen = reached.to(torch.uint8).argmax(-1, keepdim=True)
    return windows.gather(-1, chosen)[..., 0]


def pooling(
    x: Tensor,
    *,
    method: str,
    kernel: tuple[int, int] | None,
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil_mode: bool,
    top_count: int,
    training: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return x pooled, over whole images without `kernel`; with two tops the maxima's indices."""
    kernel = kernel or (x.shape[2], x.shape[3])
    if method == "AVE":
        return average_pool(x, kernel, stride, pad, ceil_mode)
    if method == "STOCHASTIC":
        return stochastic_pool(x, kernel, stride, ceil_mode, training)
    if top_count == 2 or wide_pad(kernel, pad):
        tops = max_pool(x, kernel, stride, pad, ceil_mode)
        return tops if top_count == 2 else tops[0]
    top = F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil_mode)
    return keep_outside(x, top, kernel, stride, pad, ceil_mode, LOWEST)


@register_layer("Pooling", param="pooling_param")
class Pooling(Layer):
    """Pool height and width of a 4-D bottom.

    ``kernel_size`` or ``kernel_h``/``kernel_w``, or ``global_pooling``; ``stride`` (1), ``pad`` (0)
    in the same forms. Output size: ``ceil((size + 2 pad - kernel) / stride) + 1``; rounded down
    with ``round_mode: FLOOR``, which forks write ``ceil_mode: false``. Second top of MAX: the index
    y * width + x of each maximum, as floats (of equal values the first).
    """

    tops = Arity(1, 2)
    function = staticmethod(pooling)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read kernel, stride, pad and how sizes are rounded."""
        options = self.options
        self.global_pooling = options.global_pooling
        self.stride = self._pair("stride", "stride")
        self.pad = self._pair("pad", "pad")
        self.method = self.option_name("pool")
        self.ceil_mode = self._rounds_up()
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
        for name in ("kernel_depth", "temporal_pad", "temporal_stride"):
            if options.HasField(name):
                raise self.error(name, expected="no such option, which C3D's Pooling3D has")

    def _rounds_up(self) -> bool:
        options, up = self.options, self.option_name("round_mode") == "CEIL"
        if not options.HasField("ceil_mode"):
            return up
        if options.HasField("round_mode") and up != options.ceil_mode:
            raise self.error(
                f"round_mode: {self.option_name('round_mode')} and "
                f"ceil_mode: {str(options.ceil_mode).lower()}",
                expected="one of them",
            )
        return options.ceil_mode

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
        return pooled_size(sizes, self.kernel, self.stride, self.pad, self.ceil_mode)
