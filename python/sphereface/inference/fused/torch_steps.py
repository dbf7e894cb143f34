"""Operations of a folded net as torch functions, for what csrc/cpu/forward_program.h does not have.

These are other devices, bfloat16, groups, long inner products, and layers that run as they are.
What comes after a product is done in the product's own result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layers.convolution import Convolution
from sphereface.inference.fused.operation import Operation
from sphereface.inference.packed_convolution import PackedKernel, can_pack

__all__ = ["torch_step"]


def torch_step(operation: Operation, like: Tensor, memory_format: torch.memory_format) -> Any:
    """Return a callable of the bottoms.

    Parameters
    ----------
    operation : Operation
    like : Tensor
        Of the device and dtype that it computes in.
    memory_format : torch.memory_format
        Of convolutions' kernels.
    """
    if operation.is_layer:
        return operation.layer
    start = _product(operation, memory_format) if operation.product else _affine(operation, like)
    slopes = None
    if operation.slopes is not None and not operation.is_relu:
        slopes = operation.slopes.to(like)
    return _Step(start, operation, slopes)


class _Step:
    """A product or an affine step, then residual and rectifier."""

    def __init__(
        self, start: Callable[[Tensor], Tensor], operation: Operation, slopes: Tensor | None
    ) -> None:
        self._start, self._slopes = start, slopes
        self._first = operation.residual_first
        self._rectifies = operation.slopes is not None

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self._start(x)
        # The product's result is its own; without one, x is somebody else's.
        owned = y is not x
        if residual is not None and self._first:
            y, owned = (y.add_(residual) if owned else y + residual), True
        if self._rectifies:
            if self._slopes is not None:
                y = torch.prelu(y, self._slopes)
            else:
                y = y.relu_() if owned else y.relu()
        if residual is not None and not self._first:
            y = y + residual
        return y


def _product(
    operation: Operation, memory_format: torch.memory_format
) -> Callable[[Tensor], Tensor]:
    weight, bias, layer = operation.weight(), operation.bias(), operation.layer
    if not isinstance(layer, Convolution):
        return lambda x: F.linear(x.flatten(1), weight, bias)
    if weight.dim() == 4:
        weight = weight.contiguous(memory_format=memory_format)
    convolve = PackedKernel() if can_pack(layer) else layer.convolve
    return lambda x: convolve(x, weight, bias, layer.stride, layer.pad, layer.dilation, layer.group)


def _affine(operation: Operation, like: Tensor) -> Callable[[Tensor], Tensor]:
    affine = operation.after
    if affine is None:
        return lambda x: x
    scale, shift = affine.scale.to(like), affine.shift.to(like)

    def apply(x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        return x * scale.view(shape) + shift.view(shape)

    return apply
