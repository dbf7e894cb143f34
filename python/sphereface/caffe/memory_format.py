"""The order in memory of a net's kernels."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["arrange_kernels"]

_KERNEL_AXES = 4


def arrange_kernels(net: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out the kernels of 2-D convolutions; torch's ``Module.to`` refuses 3-D ones beside them.

    Parameters
    ----------
    net : Module
        Changed in place; shapes stay.
    memory_format : torch.memory_format
        ``torch.channels_last`` or ``torch.contiguous_format``.
    """
    for blob in net.parameters():
        if blob.dim() == _KERNEL_AXES:
            blob.data = blob.data.contiguous(memory_format=memory_format)
