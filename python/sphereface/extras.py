"""The one door to packages that only some users need."""

from __future__ import annotations

import importlib
from typing import Any

from sphereface.errors import SphereFaceError

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """Import and return an optional module.

    Parameters
    ----------
    module : str
        Its name in Python, e.g. ``"cv2"``.
    extra : str
        The extra of this package that installs it, e.g. ``"data"``.

    Raises
    ------
    SphereFaceError
        It is not installed, or does not start; the error names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        raise SphereFaceError(
            f"{package} is not installed" if missing else f"{module} cannot be imported ({error})",
            fix=f"pip install 'sphereface[{extra}]'",
        ) from error
