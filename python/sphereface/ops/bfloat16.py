"""bfloat16 on a CPU that has no instructions for it.

torch multiplies such tensors element by element there. The products of two bfloat16 numbers are
exact in float32, and all that differs is that sums are rounded once, so here the rounded numbers go
through float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["autocast_through_float32", "cpu_lacks_bfloat16", "unrounded"]


def cpu_lacks_bfloat16() -> bool:
    """Tell whether oneDNN has no products of bfloat16 on this CPU."""
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def unrounded(tensor: Tensor) -> Tensor:
    """Return a bfloat16 tensor in float32, and others as they are."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def autocast_through_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `function`, which under autocast to bfloat16 on such a CPU runs in float32.

    Parameters
    ----------
    function : callable
        Takes tensors, and ``weight`` and ``bias`` (which may be None) by keyword, besides options;
        changes none of them.

    Returns
    -------
    callable
        Its arguments and its result are rounded to bfloat16, as autocast does.
    """

    def rounded(value: Any) -> Any:
        return value.bfloat16().float() if isinstance(value, Tensor) else value

    @functools.wraps(function)
    def run(*tensors: Tensor, **options: Any) -> Tensor:
        rounds = torch.is_autocast_enabled("cpu") and tensors[0].device.type == "cpu"
        if not rounds or torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return function(*tensors, **options)
        arguments = {name: rounded(value) for name, value in options.items()}
        with torch.autocast("cpu", enabled=False):
            return function(*map(rounded, tensors), **arguments).bfloat16()

    return run
