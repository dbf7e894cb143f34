"""Modules called without what `nn.Module.__call__` adds, where it would add nothing.

Source: torch's module.py, which looks for hooks of the module and of all modules at every call. For
a small layer that takes longer than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["direct_calls", "is_watched"]

_CALL = nn.Module.__call__


def is_watched(module: nn.Module) -> bool:
    """Tell whether a call of `module` does more than its forward.

    By hooks, a `__call__` put in place of torch's (torch.fx does it to trace), or a compiled form.
    """
    return bool(
        type(module).__call__ is not _CALL
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl
    )


def direct_calls(modules: Iterable[nn.Module]) -> list[Callable[..., Any]]:
    """Return what to call for each module: itself where somebody watches, or else its forward."""
    if torch.compiler.is_compiling() or torch.nn.modules.module._has_any_global_hook():
        return list(modules)
    return [module if is_watched(module) else module.forward for module in modules]
