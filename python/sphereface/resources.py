"""The prototxts that come with the package, by name; made by tools/make_prototxts.py."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from sphereface.errors import SphereFaceError, nearest

__all__ = ["find_prototxt", "list_nets", "prototxt_names", "prototxt_path"]

_FOLDER = Path(__file__).parent / "prototxt"


def prototxt_names() -> list[str]:
    """Return the names that `prototxt_path` takes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.prototxt"))


def list_nets(pattern: str = "*") -> list[str]:
    """Return the packaged nets (no solvers) that match a shell pattern, sorted.

    Parameters
    ----------
    pattern : str
        Such as ``"sphereface_*_deploy"``.

    Examples
    --------
    >>> list_nets("det*")
    ['det1', 'det2', 'det3']
    """
    nets = (name for name in prototxt_names() if not name.endswith("_solver"))
    return [name for name in nets if fnmatchcase(name, pattern)]


def prototxt_path(name: str) -> Path:
    """Return the path of a packaged net or solver.

    Parameters
    ----------
    name : str
        ``sphereface_N_deploy``, ``sphereface_N_train`` or ``sphereface_N_solver`` with N 4, 6, 10,
        20, 36, 64 (the released definition) or 64_paper, and 4_bn, 6_bn, 10_bn (with BatchNorm and
        Scale); ``digits_deploy`` and so on; MTCNN's ``det1``, ``det2``, ``det3``. ``.prototxt`` may
        follow.

    Raises
    ------
    SphereFaceError
        There is no such file; the error gives the nearest name.

    Examples
    --------
    >>> prototxt_path("sphereface_20_deploy").name
    'sphereface_20_deploy.prototxt'
    """
    stem = name.removesuffix(".prototxt")
    names = prototxt_names()
    if stem not in names:
        raise SphereFaceError(
            f'no packaged prototxt "{name}"',
            expected=f"one of {', '.join(names)}",
            fix=nearest(stem, names),
        )
    return _FOLDER / f"{stem}.prototxt"


def find_prototxt(name: str) -> Path:
    """Return the path of `name`: a file, or the name of a packaged prototxt.

    Raises
    ------
    SphereFaceError
        It is neither, but is close to the name of a packaged one.
    """
    path = Path(name)
    if path.exists():
        return path
    names = prototxt_names()
    if name.removesuffix(".prototxt") in names:
        return prototxt_path(name)
    if name.isidentifier() and (fix := nearest(name, names)):
        raise SphereFaceError("no such file and no packaged net", where=name, fix=fix)
    return path
