"""2-D convolution whose gradient for the kernels on the CPU is computed by a kernel of our own.

oneDNN's is the slowest part of a training step (AVX2, float32); csrc/cpu/kernel_gradient.cpp keeps
its sums in registers over a band of rows, and its bits do not depend on the number of threads. The
images' gradient and the forward are torch's. benchmarks/training.py measures it.

bfloat16 goes through float32 on a CPU that has no instructions for it (bfloat16.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sphereface.ops._library import call
from sphereface.ops.bfloat16 import cpu_lacks_bfloat16, unrounded

__all__ = ["conv2d"]

_FEWEST_CHANNELS = 16  # of fewer, most of the kernel's panel of channels would be zeros


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int,
) -> Tensor:
    """Return ``F.conv2d``; its gradients are faster on a CPU. It is differentiable once.

    Parameters
    ----------
    x : Tensor of shape (N, C, H, W)
        float32 or bfloat16, on the CPU; everything else goes to ``F.conv2d``. As there, autocast
        applies. It is best in channels_last order, as the weight.
    weight : Tensor of shape (O, C / group, kernel, kernel)
    bias : Tensor of shape (O,), optional
    stride, pad, dilation : pair of int
    group : int

    Returns
    -------
    Tensor of shape (N, O, H', W')
    """
    trains = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not trains or x.device.type != "cpu" or torch.compiler.is_compiling() or not x.numel():
        return F.conv2d(x, weight, bias, stride, pad, dilation, group)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    emulated = x.dtype == weight.dtype == torch.bfloat16 and cpu_lacks_bfloat16()
    own = x.dtype == weight.dtype == torch.float32 and _is_own(x, group)
    if not emulated and not own:
        return F.conv2d(x, weight, bias, stride, pad, dilation, group)
    return _Conv2d.apply(x, weight, bias, stride, pad, dilation, group)


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options, ctx.has_bias = options, bias is not None
        term = None if bias is None else unrounded(bias)
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(unrounded(x), unrounded(weight), term, *options).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, pad, dilation, group = ctx.options
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous(memory_format=torch.channels_last)
        own = need_weight and _is_own(x, group)
        dx, dweight, dbias = torch.ops.aten.convolution_backward(
            *map(unrounded, (grad, x, weight)), weight.shape[:1], stride, pad, dilation, False,
            (0, 0), group, (need_x, need_weight and not own, ctx.has_bias and need_bias),
        )  # fmt: skip
        if own:
            rows = [t.permute(0, 2, 3, 1) for t in (grad, x)]
            operator = torch.ops.sphereface.convolution_kernel_gradient
            dweight = call(operator, *rows, weight.shape[2:], stride, pad, dilation)
            dweight = dweight.permute(0, 3, 1, 2)
        return (*(None if d is None else d.to(x.dtype) for d in (dx, dweight, dbias)), *[None] * 4)


def _is_own(x: Tensor, group: int) -> bool:
    return group == 1 and x.shape[1] >= _FEWEST_CHANNELS
