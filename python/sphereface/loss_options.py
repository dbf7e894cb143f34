"""What the fused margin softmax loss may be asked for, in torch and in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sphereface.errors import SphereFaceError

__all__ = ["check_loss_options", "keeps_logits", "named_loss_options"]

_BUDGET = 1 << 30
_REDUCTIONS = ("mean", "sum", "none")
_NAMES = ("reduction", "label_smoothing", "class_weight", "memory")


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


def named_loss_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of a loss module's options.

    Raises
    ------
    SphereFaceError
        One of them is none that `sphereface.margin_softmax_loss` takes in this way.
    """
    unknown = [name for name in options or {} if name not in _NAMES]
    if unknown:
        raise SphereFaceError(
            f"loss_options has {', '.join(map(repr, unknown))}",
            where="margin loss",
            expected=f"of {', '.join(_NAMES)}",
        )
    return dict(options or {})
