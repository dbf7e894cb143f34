"""What ``demo-faces`` wrote into a folder that may hold the user's files too, and its removal.

Its crops are known by what `align_folder` keeps among them, its lists and nets by a mark in
net.prototxt and solver.prototxt beside them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphereface.errors import SphereFaceError
from sphereface.faces.aligned_folder import holds_crops

__all__ = ["MARK", "check_ours", "remove_results"]

#: First line of the prototxt files.
MARK = "# Written by sphereface demo-faces, whose --renew takes lists and nets beside it away.\n"

_PROTOTXTS = ("net.prototxt", "solver.prototxt")
_NET = re.compile(r"net_iter_\d+\.(caffemodel|solverstate(\.npz)?)")
_RESULTS = ("report.html", "report.json", "features.npz.meta.json", "features.npz", "pairs.txt")
_LISTS = ("test.txt", "train.txt")
_FACES = (
    "faces.failures.csv",
    "faces.jsonl.part.meta.json",
    "faces.jsonl.part",
    "faces.jsonl.meta.json",
    "faces.jsonl",
)


def check_ours(output: Path, *, lists: bool) -> None:
    """Raise if a folder has nets that ``demo-faces`` is not known to have made.

    Parameters
    ----------
    output : path
    lists : bool
        Also if it has such lists or results.

    Raises
    ------
    SphereFaceError
        It has: they would be replaced, gone on from or removed.
    """
    found = [path for name in _PROTOTXTS if (path := output / name).exists()]
    others = [path for path in found if not _is_marked(path)]
    if not found:
        others = list(_nets(output))
        others += [path for path in _made(output) if lists]
    if others:
        raise SphereFaceError(
            "nothing tells that demo-faces made this",
            where=str(others[0]),
            fix="move it away, or give another --output",
        )


def remove_results(output: Path, *, crops: bool, faces: bool) -> None:
    """Remove the lists and what was made by them; also the crops, and the faces, if asked.

    Raises
    ------
    SphereFaceError
        Something is not known to be of ``demo-faces``; all is left as it was.
    """
    check_ours(output, lists=True)
    folder = output / "crops"
    if crops:
        _check_crops(folder)
    # Last goes what tells that there is something to take away: a stopped removal is repeated.
    for path in [*_nets(output), *_made(output)]:
        path.unlink()
    if crops and folder.exists():
        _remove_crops(folder)
    for name in _FACES if faces else ():
        (output / name).unlink(missing_ok=True)


def _is_marked(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(MARK)) == MARK.encode()


def _nets(output: Path) -> Iterator[Path]:
    return (path for path in output.iterdir() if _NET.fullmatch(path.name) and path.is_file())


def _made(output: Path) -> Iterator[Path]:
    return (path for name in (*_RESULTS, *_LISTS) if (path := output / name).is_file())


def _check_crops(folder: Path) -> None:
    if folder.is_symlink():
        raise SphereFaceError(
            "a link, behind which nothing is removed",
            where=str(folder),
            fix="remove it and the crops that it leads to, or give another --output",
        )
    if not folder.exists() or holds_crops(folder):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise SphereFaceError(
            "not made by demo-faces: no aligned.jsonl is in it",
            where=str(folder),
            fix="move it away, or give another --output",
        )


def _remove_crops(folder: Path) -> None:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name.startswith("aligned.jsonl")):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    folder.rmdir()
