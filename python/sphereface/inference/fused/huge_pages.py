"""Memory on pages of 2 MiB, where the system gives them to those who ask (Linux, `madvise`).

A pass at batch 1 reads every weight once: over pages of 4 KiB the processor looks up an address for
every 4 KiB, and its prefetch ends at each page. SphereFace-20's convolutions take 0.93 of the time
on large ones.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

__all__ = ["zeros"]

_PAGE = 2 << 20
_FLOAT = 4  # bytes


def zeros(count: int) -> Tensor:
    """Return `count` zeros in float32."""
    size = count * _FLOAT
    if size < _PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(count)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        pages = mmap.mmap(-1, -(-size // _PAGE) * _PAGE, flags=flags)
        pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a limit, or a kernel without them
        return torch.zeros(count)
    return torch.frombuffer(pages, dtype=torch.float32, count=count)
