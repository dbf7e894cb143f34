"""List files: a name and a label a line.

Source: Caffe's image_data_layer.cpp and convert_imageset.cpp, which split at the last space and
take atoi of the rest. What differs: a label that is no number is an error (atoi makes it 0);
spaces at the end of a line and empty lines do not matter.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["ImageList", "read_image_list"]

_LABEL = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT32 = 2**31


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


def read_image_list(path: str | os.PathLike[str], where: str = "") -> ImageList:
    """Read a list file; `where` is the place of its name, for errors.

    Raises
    ------
    SphereFaceError
        It is missing, has no entries, or a line is no name and label; the error has its number.
    """
    source = os.fspath(path)
    try:
        text = Path(path).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise SphereFaceError(
            f"list of images cannot be read ({error.strerror})",
            where=f"{where}: {source}" if where else source,
            fix="paths are relative to the current folder",
        ) from None
    names, labels, lines = [], [], []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.rstrip()
        if not entry:
            continue
        name, space, label = entry.rpartition(" ")
        if not space or not name.strip() or not _LABEL.fullmatch(label):
            raise _line_error(f"{source}:{number}", entry)
        value = int(label)
        if not -_INT32 <= value < _INT32:
            raise SphereFaceError(
                f"label {label}", where=f"{source}:{number}", expected="an integer of 32 bits"
            )
        names.append(name)
        labels.append(value)
        lines.append(number)
    if not names:
        raise SphereFaceError("zero lines", where=source, expected="an image and a label a line")
    return ImageList(source, names, np.array(labels, np.int64), np.array(lines, np.int64))


def _line_error(where: str, entry: str) -> SphereFaceError:
    shown = entry if len(entry) <= 80 else f"{entry[:77]}..."
    fix = ""
    if re.search(r"[\t,;]\s*[+-]?\d+$", entry):
        fix = "separate the label by a space"
    return SphereFaceError(f'"{shown}"', where=where, expected="NAME LABEL, an integer", fix=fix)
