"""What the fused margin softmax loss may be asked for, in torch and in numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sphereface.errors import SphereFaceError, nearest

__all__ = [
    "LOSS_OPTIONS",
    "check_class_weight",
    "check_loss_options",
    "check_memory",
    "check_products",
    "kept_buffers",
    "named_loss_options",
]

_BUDGET = 1 << 30
_REDUCTIONS = ("mean", "sum", "none")
_PRODUCTS = ("torch.bfloat16", "torch.float16", "torch.float32", "torch.float64")
_DEFAULTS = {
    "reduction": "mean",
    "label_smoothing": 0.0,
    "class_weight": None,
    "memory": None,
    "products": None,
}
# What other packages call the members' own options.
_OTHERS_NAMES = {
    "s": "here it is scale",
    "m": "here it is margin",
    "easy_margin": "here it is easy",
    "weight": "here it is class_weight",
}
LOSS_OPTIONS = tuple(_DEFAULTS)
"""The options of a loss module, by name."""


def check_loss_options(
    reduction: str,
    label_smoothing: float,
    memory: str | int | None,
    class_weight: Any = None,
    binary: bool = False,
    products: Any = None,
) -> None:
    """Refuse what the loss does not know; `binary` says that the classes have losses of their own.

    Raises
    ------
    SphereFaceError
        An option is unknown or out of its range.
    """
    where = "margin_softmax_loss"
    if reduction not in _REDUCTIONS:
        raise SphereFaceError(
            f"reduction is {reduction!r}", where=where, expected='"mean", "sum" or "none"'
        )
    if not (isinstance(label_smoothing, (int, float)) and 0 <= label_smoothing <= 1):
        raise SphereFaceError(
            f"label_smoothing is {label_smoothing!r}", where=where, expected="0 to 1"
        )
    check_memory(memory, where)
    check_products(products)
    if binary and (label_smoothing or class_weight is not None):
        raise SphereFaceError(
            "label_smoothing or class_weight",
            where="margin_softmax_loss with SphereFace2",
            expected="neither, for each class has a loss of its own",
        )


def check_memory(memory: str | int | None, where: str) -> None:
    """Refuse a `memory` that is no choice.

    Raises
    ------
    SphereFaceError
        It is neither "fast", "lean", a number of bytes nor None.
    """
    is_count = isinstance(memory, (int, float)) and 0 <= memory < math.inf
    if not (memory in ("fast", "lean", None) or is_count):
        raise SphereFaceError(
            f"memory is {memory!r}",
            where=where,
            expected='"fast", "lean", a number of bytes or None',
        )


def check_products(products: Any) -> None:
    """Refuse what is no precision of the products.

    Raises
    ------
    SphereFaceError
        It is neither a floating torch.dtype, "autocast" nor None.
    """
    is_dtype = not isinstance(products, str) and str(products) in _PRODUCTS
    if not (is_dtype or products in ("autocast", None)):
        raise SphereFaceError(
            f"products is {products!r}",
            where="products",
            expected='torch.bfloat16 (or another floating dtype), "autocast" or None',
        )


def kept_buffers(memory: str | int | None, *sizes: int) -> list[bool]:
    """Tell which buffers of these bytes are kept from the forward to the backward.

    ``"fast"`` keeps all and ``"lean"`` none; a number of bytes (None: 1 GiB) each that fits beside
    those before it.
    """
    if memory in ("fast", "lean"):
        return [memory == "fast"] * len(sizes)
    left, kept = _BUDGET if memory is None else int(memory), []
    for size in sizes:
        kept.append(size <= left)
        if kept[-1]:
            left -= size
    return kept


def check_class_weight(weights: Any, classes: int) -> None:
    """Refuse weights of classes that are not one for each.

    Raises
    ------
    SphereFaceError
        They are not.
    """
    shape = getattr(weights, "shape", None)
    if shape is None or tuple(shape) != (classes,):
        raise SphereFaceError(
            f"class_weight is of type {type(weights).__name__}"
            if shape is None
            else f"class_weight has shape {tuple(shape)}",
            where="margin_softmax_loss",
            expected=f"({classes},), one for each class",
        )


def named_loss_options(
    options: Mapping[str, Any], classes: int, where: str, binary: bool = False
) -> dict[str, Any]:
    """Return all of a loss module's options, those that are not given with their defaults.

    Raises
    ------
    SphereFaceError
        One of them is none that `sphereface.margin_softmax_loss` takes in this way, or is out of
        its range.
    """
    unknown = [name for name in options if name not in _DEFAULTS]
    if unknown:
        raise SphereFaceError(
            f"unknown option {', '.join(map(repr, unknown))}",
            where=where,
            expected=f"besides what the loss has of its own, {', '.join(_DEFAULTS)}",
            fix=_OTHERS_NAMES.get(unknown[0]) or nearest(unknown[0], _DEFAULTS),
        )
    found = {**_DEFAULTS, **options}
    check_loss_options(**found, binary=binary)
    if found["class_weight"] is not None:
        check_class_weight(found["class_weight"], classes)
    return found
