"""Whole blobs into numpy's files, for runs whose result fits into memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path

__all__ = ["check_format", "save_blobs"]


def check_format(path: str | os.PathLike[str], count: int) -> None:
    """Raise unless `count` blobs can be saved as `path`; for asking before a long run.

    Raises
    ------
    SphereFaceError
        Another suffix, or several blobs for ``.npy``.
    """
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz") or (suffix == ".npy" and count != 1):
        raise SphereFaceError(
            f"an output for {count} blobs", where=os.fspath(path), expected=".npy for one, or .npz"
        )


def save_blobs(
    path: str | os.PathLike[str], blobs: Mapping[str, np.ndarray], paths: Sequence[str] = ()
) -> None:
    """Write blobs, atomically: one as ``.npy``, or any number by name as ``.npz``.

    An ``.npz`` of images also gets their `paths`, as ``paths``.
    """
    check_format(path, len(blobs))
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".npy":
            np.save(temporary, next(iter(blobs.values())))
        else:
            arrays: dict[str, Any] = {"paths": np.array(paths)} if paths else {}
            arrays.update(blobs)
            np.savez(temporary, **arrays)
