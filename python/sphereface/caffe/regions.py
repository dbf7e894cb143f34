"""Regions of interest: how their corners become positions of a feature map."""

from __future__ import annotations

from torch import Tensor

__all__ = ["round_half_away"]


def round_half_away(x: Tensor) -> Tensor:
    """Return what C's round returns: halves away from zero."""
    return x.sign() * (x.abs() + 0.5).floor()
