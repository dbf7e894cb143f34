"""Where fetched files are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """Return the folder of a fetched thing, which need not exist.

    ``$SPHEREFACE_CACHE/NAME``; without that variable ``sphereface/NAME`` in ``$XDG_CACHE_HOME`` or
    ``~/.cache``.
    """
    own = os.environ.get("SPHEREFACE_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(own) if own else Path(shared) / "sphereface") / name
