"""Lists of verification pairs as text: LFW's pairs.txt and what else is about, told by content.

Read are, with tabs or blanks between the fields (tabs, when a line has one, let names hold blanks):

- LFW's ``name n1 n2`` (same) and ``name1 n1 name2 n2`` (different), under a header of two numbers
  (folds, pairs of a kind in each), of one (DevTrain, DevTest: one fold) or none;
- ``path path flag`` and ``flag path path`` (opensphere); the flag is 1, or 0 or -1;
- CSV with a header: its columns' names, or LFW's fields under other names.

Source: LFW's README; ``Name 4`` means ``Name/Name_0004``. Where a list has no folds, ten equal
parts in file order are taken, which for LFW's 6000 pairs is evaluation.m's ceil(i / 600).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.files import read_text

__all__ = ["PairList", "read_pairs"]

_LIMIT = 1 << 30
_FLAGS = {"1": True, "0": False, "-1": False}
_COLUMNS = {
    "left": ("left", "path1", "file1", "image1", "img1", "filel"),
    "right": ("right", "path2", "file2", "image2", "img2", "filer"),
    "flag": ("flag", "same", "label", "issame", "is_same", "target"),
    "fold": ("fold",),
}


@dataclass(frozen=True)
class PairList:
    """P pairs of images.

    Attributes
    ----------
    left, right : list of P str
        ``Name/Name_0004``, or the path as the list has it.
    same : ndarray of shape (P,), bool
    fold : ndarray of shape (P,), int64
        From 1.
    """

    left: list[str]
    right: list[str]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


def read_pairs(path: str | os.PathLike[str]) -> PairList:
    """Read a list of pairs, of whichever form.

    Raises
    ------
    SphereFaceError
        A line cannot be understood, or the header promises other pairs than there are.
    """
    where = os.fspath(path)
    lines = [
        (number, line)
        for number, line in enumerate(
            read_text(path, limit=_LIMIT, what="list of pairs").split("\n"), 1
        )
        if line.strip()
    ]
    columns = _csv_columns(lines[0][1]) if lines else None
    rows = [(number, _fields(line)) for number, line in lines]
    header = _header(rows[0][1]) if lines else None
    titles = lines and "," in lines[0][1] and not any(f.isdecimal() for f in rows[0][1])
    if columns is not None or header is not None or titles:
        rows = rows[1:]
    if not rows:
        raise SphereFaceError("no pairs", where=where, expected="a line a pair")
    if columns is not None:
        return _read_columns(lines, columns, where)
    pairs = [_pair(fields, f"{where}:{number}") for number, fields in rows]
    same = np.array([pair[2] for pair in pairs], bool)
    return PairList(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs], same, _folds(header, same, where)
    )


def _fields(line: str) -> list[str]:
    line = line.strip()
    if "\t" in line:
        fields = line.split("\t")
    elif "," in line:
        fields = next(csv.reader([line]))
    else:
        fields = line.split()
    return [field.strip() for field in fields if field.strip()]


def _header(fields: Sequence[str]) -> tuple[int, int] | None:
    """Return the folds and the pairs of a kind in each, when `fields` say so."""
    if not 1 <= len(fields) <= 2 or not all(field.isdecimal() for field in fields):
        return None
    numbers = [int(field) for field in fields]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0])


def _pair(fields: Sequence[str], where: str) -> tuple[str, str, bool]:
    number = [field.isdecimal() for field in fields]
    if len(fields) == 4 and number[1] and number[3]:
        return _image(fields[0], fields[1]), _image(fields[2], fields[3]), False
    if len(fields) == 3:
        if number[1] and number[2] and not (number[0] and fields[2] in _FLAGS):
            return _image(fields[0], fields[1]), _image(fields[0], fields[2]), True
        if fields[2] in _FLAGS:
            return fields[0], fields[1], _FLAGS[fields[2]]
        if fields[0] in _FLAGS:
            return fields[1], fields[2], _FLAGS[fields[0]]
    raise SphereFaceError(
        f"{' '.join(fields)!r}",
        where=where,
        expected="'name n1 n2', 'name1 n1 name2 n2', 'path path flag' or 'flag path path'",
    )


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _folds(
    header: tuple[int, int] | None, same: NDArray[np.bool_], where: str
) -> NDArray[np.int64]:
    if header is None:
        parts = np.array_split(np.arange(len(same)), min(10, len(same)))
        return np.repeat(np.arange(1, len(parts) + 1), [len(part) for part in parts])
    folds, kind = header
    if folds * 2 * kind != len(same) or not len(same):
        raise SphereFaceError(
            f"{len(same)} pairs",
            where=where,
            expected=f"{folds * 2 * kind}: the header says {folds} folds of {kind} same and {kind}"
            " different pairs",
        )
    return np.repeat(np.arange(1, folds + 1), 2 * kind)


def _csv_columns(header: str) -> dict[str, int] | None:
    if "," not in header:
        return None
    names = [name.strip().lower() for name in next(csv.reader([header]))]
    found = {
        key: names.index(name) for key, known in _COLUMNS.items() for name in known if name in names
    }
    return found if {"left", "right", "flag"} <= set(found) else None


def _read_columns(
    lines: Sequence[tuple[int, str]], columns: dict[str, int], where: str
) -> PairList:
    left, right, flags, folds = [], [], [], []
    for number, row in _csv_rows(lines[1:]):
        try:
            left.append(row[columns["left"]].strip())
            right.append(row[columns["right"]].strip())
            flags.append(
                {**_FLAGS, "true": True, "false": False}[row[columns["flag"]].strip().lower()]
            )
            folds.append(int(row[columns["fold"]]) if "fold" in columns else 0)
        except (IndexError, KeyError, ValueError):
            raise SphereFaceError(
                f"{','.join(row)!r}",
                where=f"{where}:{number}",
                expected="two images, a flag (1, 0, -1, true, false) and, if any, a fold's number",
            ) from None
    same = np.array(flags, bool)
    fold = np.array(folds) if "fold" in columns else _folds(None, same, where)
    return PairList(left, right, same, fold)


def _csv_rows(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        yield number, next(csv.reader([line.strip()]))
