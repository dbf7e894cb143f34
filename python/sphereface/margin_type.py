"""The two options of the margin layer that have names: its margin and its gradient."""

from __future__ import annotations

import math

from sphereface.errors import SphereFaceError, nearest

__all__ = ["GRADIENTS", "MARGIN_TYPES", "is_exact", "margin_of"]

# MarginInnerProductParameter.MarginType of Caffe's wire format, which counts m from 0.
MARGIN_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE")
GRADIENTS = ("caffe", "exact")


def margin_of(margin: float | str) -> float:
    """Return the angular margin m from a number, at least 1, or one of Caffe's type names.

    Raises
    ------
    SphereFaceError
        `margin` is neither.
    """
    if isinstance(margin, str) and margin.upper() in MARGIN_TYPES:
        return MARGIN_TYPES.index(margin.upper()) + 1
    if isinstance(margin, (int, float)) and 1 <= margin < math.inf:
        return int(margin) if margin == int(margin) else margin
    raise SphereFaceError(
        f"margin is {margin!r}",
        where="MarginInnerProduct",
        expected=f"a number >= 1 or one of {', '.join(MARGIN_TYPES)}",
        fix=nearest(margin, MARGIN_TYPES) if isinstance(margin, str) else "",
    )


def is_exact(gradient: str) -> bool:
    """Tell whether `gradient` is ``"exact"`` rather than ``"caffe"``.

    Raises
    ------
    SphereFaceError
        `gradient` is neither.
    """
    if gradient not in GRADIENTS:
        raise SphereFaceError(
            f"gradient is {gradient!r}", where="MarginInnerProduct", expected='"caffe" or "exact"'
        )
    return gradient == "exact"
