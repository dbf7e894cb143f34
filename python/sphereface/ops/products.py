"""The precision of the matrix products, where it is to be lower than that of the tensors.

Source: mixed precision training (Micikevicius et al., ICLR 2018) as torch.autocast has it. What
differs: autocast alone leaves the margin operators in float32; rounding their operands is asked
for, by the option `products`. Norms, margin, softmax and all sums stay in float32 or wider.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from sphereface.loss_options import check_products

__all__ = ["product_dtype", "rounded_operands"]


def product_dtype(products: torch.dtype | str | None, x: Tensor) -> torch.dtype | None:
    """Return what the operands of the products are rounded to; None: they stay as they are.

    Raises
    ------
    SphereFaceError
        `products` is neither a floating dtype, "autocast" nor None.
    """
    check_products(products)
    if products is None:
        return None
    if products == "autocast":
        device = x.device.type
        enabled = torch.is_autocast_enabled(device) and x.dtype != torch.float64
        return torch.get_autocast_dtype(device) if enabled else None
    assert isinstance(products, torch.dtype)
    return products


def rounded_operands(
    dtype: torch.dtype | None, x: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, contextlib.AbstractContextManager[Any]]:
    """Return x and weight in `dtype`, and what the operator is to be called in."""
    if dtype is None:
        return x, weight, contextlib.nullcontext()
    # Otherwise autocast would take the operands back to float32.
    plain = torch.autocast(x.device.type, enabled=False)
    return x.to(dtype), weight.to(dtype), plain
