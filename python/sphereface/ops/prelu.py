"""PReLU whose backward is one pass over the blob on the CPU, where torch makes three.

Source: Caffe's prelu_layer.cpp, as `torch.prelu`. torch writes x * grad to memory and sums it
afterwards; csrc/cpu/prelu.cpp sums on the way, in float64 and in an order that does not depend on
the number of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.ops._library import call

__all__ = ["prelu"]

_OP = torch.ops.sphereface.prelu_backward
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """Return x where positive, slope * x elsewhere.

    Parameters
    ----------
    x : Tensor of shape (N, C, ...)
        Any dtype that torch's takes. Autocast makes it half precision, as it does torch's.
    weight : Tensor of shape (C,) or ()
        The slope of each channel, or of all.

    Returns
    -------
    Tensor of the shape of `x`

    Notes
    -----
    At x = 0 the gradient is that of the negative side. It can be differentiated twice.

    Examples
    --------
    >>> prelu(torch.tensor([[-2.0, 3.0]]), torch.tensor(0.5))
    tensor([[-1.,  3.]])
    """
    if not _is_ours(x, weight):
        return torch.prelu(x, weight)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        if dtype not in _DTYPES:
            return torch.prelu(x, weight)
        x, weight = x.to(dtype), weight.to(dtype)
    return _PReLU.apply(x, weight)


def _is_ours(x: Tensor, weight: Tensor) -> bool:
    """Whether the one pass is for it: a gradient on the CPU, without a tracer or functorch."""
    return (
        torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and x.device.type == weight.device.type == "cpu"
        and x.dtype in _DTYPES
        and x.dim() > 1
        and (weight.dtype == x.dtype or torch.is_autocast_enabled("cpu"))
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return torch.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            dx, dslope = call(_OP, grad.reshape(_runs(x)), x.reshape(_runs(x)), slope)
            return dx.reshape(x.shape), dslope
        images, grads = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
        rows = (-1, x.shape[1], 1)
        dx, dslope = call(_OP, grads.reshape(rows), images.reshape(rows), slope)
        return dx.reshape(images.shape).permute(0, 3, 1, 2), dslope


def _runs(x: Tensor) -> tuple[int, int, int]:
    channels = x.shape[1]
    return x.shape[0], channels, x[0, 0].numel() if x.numel() else 0


@torch.library.register_fake("sphereface::prelu_backward")
def _(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), slope.new_empty(slope.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _second_backward(ctx: Any, ddx: Tensor, ddslope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad, x, slope = ctx.saved_tensors
    negative = x <= 0
    slopes, ddslopes = (t.reshape(1, -1, 1) for t in (slope, ddslope))
    zero = torch.zeros((), dtype=x.dtype)
    dgrad = torch.where(negative, slopes * ddx + x * ddslopes, ddx)
    dx = torch.where(negative, grad * ddslopes, zero)
    both = torch.where(negative, grad * ddx, zero)
    return dgrad, dx, both.sum() if slope.numel() == 1 else both.sum((0, 2))


torch.library.register_autograd(
    "sphereface::prelu_backward", _second_backward, setup_context=_setup_context
)
