"""LFW's people lists: who is in which set, with how many images.

A header of one number, the sets; then for each set the number of its people and a line
``name<TAB>images`` a person. peopleDevTrain.txt and peopleDevTest.txt have one set and no first
number. Source: LFW's README.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.files import read_text

__all__ = ["PeopleList", "read_people"]

_LIMIT = 1 << 28


@dataclass(frozen=True)
class PeopleList:
    """People of the sets.

    Attributes
    ----------
    name : list of str
    images : ndarray of int64
        How many each person has.
    fold : ndarray of int64
        Each person's set, from 1.
    """

    name: list[str]
    images: NDArray[np.int64]
    fold: NDArray[np.int64]


def read_people(path: str | os.PathLike[str]) -> PeopleList:
    """Read a people list.

    Raises
    ------
    SphereFaceError
        A line is neither a person nor a number, or the numbers do not fit.
    """
    where = os.fspath(path)
    lines = [
        (number, line.split())
        for number, line in enumerate(
            read_text(path, limit=_LIMIT, what="people list").split("\n"), 1
        )
        if line.strip()
    ]
    numbers = [place for place, (_, fields) in enumerate(lines) if len(fields) == 1]
    # Two numbers in a row: the first is that of the sets.
    sets = numbers[1:] if numbers[:2] == [0, 1] else numbers
    name, images, fold = [], [], []
    for index, start in enumerate(sets):
        stop = sets[index + 1] if index + 1 < len(sets) else len(lines)
        for number, fields in lines[start + 1 : stop]:
            if len(fields) != 2 or not fields[1].isdecimal():
                raise SphereFaceError(
                    f"{' '.join(fields)!r}", where=f"{where}:{number}", expected="name and images"
                )
            name.append(fields[0])
            images.append(int(fields[1]))
            fold.append(index + 1)
        _expect(lines[start], stop - start - 1, "people", where)
    if not name or sets[0] != len(numbers) - len(sets):
        raise SphereFaceError("no people", where=where, expected="a number, then a line a person")
    if sets is not numbers:
        _expect(lines[0], len(sets), "sets", where)
    return PeopleList(name, np.array(images), np.array(fold))


def _expect(line: tuple[int, list[str]], found: int, what: str, where: str) -> None:
    number, fields = line
    if fields[0] != str(found):
        raise SphereFaceError(
            f"{found} {what}", where=f"{where}:{number}", expected=f"{fields[0]}, as this line says"
        )
