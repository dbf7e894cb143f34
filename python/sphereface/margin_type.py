"""The two options of the margin layer that have names: its margin and its gradient."""

from __future__ import annotations

from sphereface.errors import SphereFaceError, nearest

__all__ = ["GRADIENTS", "MARGIN_TYPES", "is_exact", "margin_of"]

# MarginInnerProductParameter.MarginType of Caffe's wire format, which counts m from 0.
MARGIN_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE")
GRADIENTS = ("caffe", "exact")


def margin_of(margin: int | str) -> int:
    """Return the angular margin m, 1 to 4, from a number or one of Caffe's type names.

    Raises
    ------
    SphereFaceError
        `margin` is neither.
    """
    if isinstance(margin, str) and margin.upper() in MARGIN_TYPES:
        return MARGIN_TYPES.index(margin.upper()) + 1
    if not isinstance(margin, str) and margin in (1, 2, 3, 4):
        return int(margin)
    raise SphereFaceError(
        f"margin is {margin!r}",
        where="MarginInnerProduct",
        expected=f"1, 2, 3, 4 or one of {', '.join(MARGIN_TYPES)}",
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
