"""Which pictures a list file, a folder or a name means.

Source: Caffe's image_data_layer.cpp and convert_imageset.cpp, which split a line at its last space
and take atoi of the rest, so that the last of several numbers is the label and a line without a
label has label 0. What differs: a name with spaces and no label stays whole; a label that is no
number is an error (atoi makes it 0), and so is a line without a label among lines that have one;
spaces at the end of a line and empty lines do not matter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.files import read_text

__all__ = ["IMAGE_SUFFIXES", "ImageFile", "ImageList", "list_images", "read_image_list"]

_SUFFIXES = "avif bmp dib gif j2k jp2 jpe jpeg jpg pam pbm pgm png pnm ppm tif tiff webp"

#: Suffixes of the files in a folder that are pictures.
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
_LIST_SUFFIXES = frozenset((".txt", ".lst", ".list"))
_LABEL = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NAME = re.compile(r"\S+|.*\.[A-Za-z]\w{1,4}", re.ASCII)  # a word, or ends in a suffix
_SEPARATED = re.compile(r"[\t,;]\s*[+-]?\d+$")
_INT32 = 2**31
_MAX_BYTES = 1 << 31


@dataclass(frozen=True)
class ImageList:
    """The entries of a list file.

    Attributes
    ----------
    source : str
        Name of the file.
    names : list of str
        As in the file; undecodable bytes are kept as surrogates.
    labels : ndarray of int64
        0 for all in a list without labels.
    lines : ndarray of int64
        Line number of each entry.
    """

    source: str
    names: list[str]
    labels: NDArray[np.int64]
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        """Return ``list.txt:12`` for an entry."""
        return f"{self.source}:{self.lines[index]}"


class ImageFile(NamedTuple):
    """A picture that a user meant.

    Attributes
    ----------
    root : str
        What goes before the name: the folder with its slash, or nothing.
    name : str
        Relative to the folder that was given; as in the list; or as given.
    """

    root: str
    name: str

    @property
    def path(self) -> str:
        """Where the file is."""
        return self.root + self.name


def read_image_list(
    path: str | os.PathLike[str], where: str = "", *, labels: bool = True
) -> ImageList:
    """Read a list file: a name, or a name and a label, a line.

    Parameters
    ----------
    path : path
        UTF-8, or any bytes.
    where : str
        Place of the file's name, for errors.
    labels : bool
        False if only the names matter: lines with and without a label may then be mixed.

    Raises
    ------
    SphereFaceError
        It is missing, has no entries, or a line is no name and label; the error has its number.
    """
    source = os.fspath(path)
    try:
        text = read_text(path, limit=_MAX_BYTES, what="list of images")
    except SphereFaceError as error:
        fix = error.fix or "paths are relative to the current folder"
        raise SphereFaceError(
            error.problem,
            where=f"{where}: {source}" if where else source,
            expected=error.expected,
            fix=fix,
        ) from None
    names, values, lines = [], [], []
    first: tuple[int, bool] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.rstrip()
        if not entry:
            continue
        name, value = _parse(entry, f"{source}:{number}")
        first = first or (number, value is None)
        if labels and first[1] != (value is None):
            raise SphereFaceError(
                f'"{_shown(entry)}" {"without" if value is None else "with"} a label',
                where=f"{source}:{number}",
                expected=f"NAME{'' if first[1] else ' LABEL'}, as in line {first[0]}",
            )
        names.append(name)
        values.append(value or 0)
        lines.append(number)
    if not names:
        raise SphereFaceError("no images: zero lines", where=source,
                              expected="an image and a label a line")  # fmt: skip
    return ImageList(source, names, np.array(values, np.int64), np.array(lines, np.int64))


def list_images(
    inputs: Iterable[str | os.PathLike[str]], root: str = "", *, suffixes: Iterable[str] = ()
) -> list[ImageFile]:
    """Return the picture files meant by files, folders and lists.

    A folder means all pictures in it and below, sorted by name; links are followed, a folder is
    entered once; one below that cannot be read stands in the list itself, so that whoever reads the
    pictures names it. A ``.txt``, ``.lst`` or ``.list`` file is a list; a label after a name is
    ignored.

    Parameters
    ----------
    inputs : iterable of path-like
        What the user named.
    root : str
        Folder that the names in lists are relative to (``root_folder``).
    suffixes : iterable of str
        Suffixes looked for in folders instead of `IMAGE_SUFFIXES`.

    Raises
    ------
    SphereFaceError
        A file does not exist, or a folder or list is empty or unreadable.
    """
    files: list[ImageFile] = []
    for given in inputs:
        item, path = os.fspath(given), Path(given)
        if path.is_dir():
            folder = os.path.join(item, "")  # noqa: PTH118 - the name as given, with a slash
            wanted = frozenset(suffixes) or IMAGE_SUFFIXES
            found = [ImageFile(folder, name) for name in sorted(_names(item, wanted))]
            if not found:
                raise SphereFaceError(
                    "no images", where=item, expected=f"files named *{' *'.join(sorted(wanted))}"
                )
        elif path.suffix.lower() in _LIST_SUFFIXES:
            before = os.path.join(root, "") if root else ""  # noqa: PTH118
            found = [
                ImageFile("" if name.startswith("/") else before, name)
                for name in read_image_list(item, labels=False).names
            ]
        elif path.exists():
            found = [ImageFile("", item)]
        else:
            raise SphereFaceError("no such file or folder", where=item)
        files += found
    return files


def _names(folder: str, suffixes: frozenset[str]) -> Iterator[str]:
    """Yield the names below a folder, relative to it."""
    closed: list[str] = []

    def refuse(error: OSError) -> None:
        name = os.path.relpath(error.filename, folder)
        if name == ".":
            raise SphereFaceError(
                f"the folder cannot be read ({error.strerror})", where=str(error.filename)
            ) from None
        closed.append(name)

    seen = {_identity(folder)}
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        relative = os.path.relpath(parent, folder)
        before = "" if relative == "." else f"{relative}/"
        for name in names:
            if Path(name).suffix.lower() in suffixes:
                yield before + name
        new = []
        for name in sorted(folders):
            identity = _identity(f"{parent}/{name}")
            if identity not in seen:
                seen.add(identity)
                new.append(name)
        folders[:] = new
    yield from closed


def _identity(folder: str) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def _parse(entry: str, where: str) -> tuple[str, int | None]:
    name, space, label = entry.rpartition(" ")
    if space and name.strip() and _LABEL.fullmatch(label):
        value = int(label)
        if not -_INT32 <= value < _INT32:
            raise SphereFaceError(f"label {label}", where=where, expected="an integer of 32 bits")
        return name, value
    separated = _SEPARATED.search(entry)
    if separated or not _NAME.fullmatch(entry) or (space and not name.strip()):
        raise SphereFaceError(
            f'"{_shown(entry)}"',
            where=where,
            expected="NAME LABEL, an integer",
            fix="separate the label by a space" if separated else "",
        )
    return entry, None


def _shown(entry: str) -> str:
    return entry if len(entry) <= 80 else f"{entry[:77]}..."
