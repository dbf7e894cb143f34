"""Loads the compiled operators and gives their errors a class; every module calls them through it.

C++ can only raise a RuntimeError with a text across torch's stable ABI, so the text begins with a
tag where Python has a class (csrc/torch/tensors.h).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sphereface.errors import NonFiniteError, SphereFaceError

try:
    from sphereface import _C  # noqa: F401  (its import registers torch.ops.sphereface.*)
except ImportError as error:
    raise ImportError(
        f"sphereface's compiled operators do not load with torch {torch.__version__}: {error}. "
        "They need torch 2.10 or newer; reinstall with "
        "`pip install --no-build-isolation --force-reinstall --no-deps .` from a checkout"
    ) from error

__all__ = ["call"]

_CLASSES: dict[str, type[Exception]] = {
    "[bad value] ": SphereFaceError,
    "[not finite] ": NonFiniteError,
    "[no memory] ": torch.OutOfMemoryError,
}


def call(operator: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``operator(*arguments)``; its errors have the class that their tag stands for.

    In a graph of torch.compile the operator is called without this, and its errors are
    RuntimeErrors with their tags.
    """
    if torch.compiler.is_compiling():
        return operator(*arguments)
    try:
        return operator(*arguments)
    except RuntimeError as error:
        text = str(error)
        if "functorch transforms" in text:
            raise RuntimeError(
                f"{operator} does not work under torch.func's grad, vjp, jacrev and hessian; "
                "differentiate with torch.autograd"
            ) from None
        if "Batching rule not implemented" in text:
            raise RuntimeError(
                f"{operator} does not work under torch.vmap on a batched weight; "
                'pass gradient="exact", which leaves the weight as it is, or loop'
            ) from None
        for tag, kind in _CLASSES.items():
            if text.startswith(tag):
                raise kind(text.removeprefix(tag)) from None
        raise
