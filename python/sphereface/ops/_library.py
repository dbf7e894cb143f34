"""Loads the compiled operators; imported by every module that calls them."""

from __future__ import annotations

import torch

try:
    from sphereface import _C  # noqa: F401  (its import registers torch.ops.sphereface.*)
except ImportError as error:
    raise ImportError(
        f"sphereface's compiled operators do not load with torch {torch.__version__}: {error}. "
        "They need torch 2.10 or newer; reinstall with "
        "`pip install --no-build-isolation --force-reinstall --no-deps .` from a checkout"
    ) from error
