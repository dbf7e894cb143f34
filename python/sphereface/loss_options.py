"""What the fused margin softmax loss may be asked for, in torch and in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sphereface.errors import SphereFaceError, nearest

__all__ = ["check_class_weight", "check_loss_options", "keeps_logits", "named_loss_options"]

_BUDGET = 1 << 30
_REDUCTIONS = ("mean", "sum", "none")
_DEFAULTS = {"reduction": "mean", "label_smoothing": 0.0, "class_weight": None, "memory": None}


def check_loss_options(
    reduction: str,
    label_smoothing: float,
    memory: str | int | None,
    class_weight: Any = None,
    binary: bool = False,
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
    if not 0 <= label_smoothing <= 1:
        raise SphereFaceError(
            f"label_smoothing is {label_smoothing!r}", where=where, expected="0 to 1"
        )
    if not (memory in ("fast", "lean", None) or (isinstance(memory, int) and memory >= 0)):
        raise SphereFaceError(
            f"memory is {memory!r}",
            where=where,
            expected='"fast", "lean", a number of bytes or None',
        )
    if binary and (label_smoothing or class_weight is not None):
        raise SphereFaceError(
            "label_smoothing or class_weight",
            where="margin_softmax_loss with SphereFace2",
            expected="neither, for each class has a loss of its own",
        )


def keeps_logits(memory: str | int | None, size: int) -> bool:
    """Tell whether logits of `size` bytes are kept from the forward to the backward."""
    if memory in ("fast", "lean"):
        return memory == "fast"
    return size <= (_BUDGET if memory is None else int(memory))


def check_class_weight(shape: Sequence[int], classes: int) -> None:
    """Refuse weights of classes that are not one for each.

    Raises
    ------
    SphereFaceError
        They are not.
    """
    if tuple(shape) != (classes,):
        raise SphereFaceError(
            f"class_weight has shape {tuple(shape)}",
            where="margin_softmax_loss",
            expected=f"({classes},), one for each class",
        )


def named_loss_options(
    options: Mapping[str, Any] | None, classes: int, binary: bool = False
) -> dict[str, Any]:
    """Return all of a loss module's options, those that are not given with their defaults.

    Raises
    ------
    SphereFaceError
        One of them is none that `sphereface.margin_softmax_loss` takes in this way, or is out of
        its range.
    """
    unknown = [name for name in options or {} if name not in _DEFAULTS]
    if unknown:
        raise SphereFaceError(
            f"loss_options has {', '.join(map(repr, unknown))}",
            where="margin loss",
            expected=f"of {', '.join(_DEFAULTS)}",
            fix=nearest(unknown[0], _DEFAULTS),
        )
    found = {**_DEFAULTS, **(options or {})}
    check_loss_options(**found, binary=binary)
    if found["class_weight"] is not None:
        check_class_weight(found["class_weight"].shape, classes)
    return found
