"""A blob in one line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["blob_text"]

_FIRST_VALUES = 8


def blob_text(name: str, blob: np.ndarray) -> str:
    """Return shape, statistics and first values of a blob in one line."""
    return " ".join(_words(name, blob))


def _words(name: str, blob: np.ndarray) -> Iterator[str]:
    yield f"{name} {blob.shape}"
    if blob.size:
        yield f"min {blob.min():.6g} max {blob.max():.6g}"
        yield f"mean {blob.mean(dtype=np.float64):.6g} std {blob.std(dtype=np.float64):.6g}:"
        yield from (f"{value:.6g}" for value in blob.ravel()[:_FIRST_VALUES])
        if blob.size > _FIRST_VALUES:
            yield "..."
