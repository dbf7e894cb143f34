"""Folders of people as lists for training.

Source: get_list.m of SphereFace: identities sorted, labels from 0, the three of CASIA-WebFace left
out that are people of LFW. What differs: sorted by bytes on every system; names relative to the
root; people with few pictures and people of a given list can be left out, and a part kept for
validation.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path, read_text
from sphereface.images import list_images

__all__ = [
    "CASIA_OVERLAP",
    "People",
    "exclude",
    "find_people",
    "read_names",
    "split",
    "write_list",
]

#: Identities of CASIA-WebFace that get_list.m leaves out.
CASIA_OVERLAP = ("0166921", "1056413", "1193098")

_MAX_BYTES = 1 << 28
# "Ann 3", "Ann 1 4" and "Ann 1 Bob 2", separated by tabs or blanks.
_COUNTED = re.compile(r"(?P<first>\S*[^\s\d]\S*)\s+\d+(\s+(?P<second>\S*[^\s\d]\S*))?(\s+\d+)?")
_UNSUITABLE = re.compile(r"[\n\r]|\s$")

People = Mapping[str, list[str]]


def find_people(root: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return the pictures of a folder ``root/identity/image``.

    Returns
    -------
    dict of str to list of str
        Identity -> its pictures' names relative to the root, both sorted by bytes. Pictures in
        deeper folders belong to the first.

    Raises
    ------
    SphereFaceError
        There are no pictures, or some lie in the root itself.
    """
    people: dict[str, list[str]] = {}
    loose = []
    for file in list_images([root]):
        identity, slash, _ = file.name.partition("/")
        if slash:
            people.setdefault(identity, []).append(file.name)
        else:
            loose.append(file.name)
    if loose:
        raise SphereFaceError(
            f"{len(loose)} pictures in the folder itself, {loose[0]} first",
            where=os.fspath(root),
            expected="a folder for every identity",
        )
    return {name: sorted(people[name], key=os.fsencode) for name in sorted(people, key=os.fsencode)}


def read_names(path: str | os.PathLike[str]) -> set[str]:
    """Return the people that a file names.

    One a line, LFW's people files (a count may follow a name), pairs files, or CSV, whose first
    column counts.
    """
    text = read_text(path, limit=_MAX_BYTES, what="list of names")
    if Path(path).suffix.lower() == ".csv":
        rows = [row[0].strip() for row in csv.reader(text.splitlines()) if row]
        return {name for name in rows if name}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    entries = [_COUNTED.fullmatch(line) for line in lines]
    if not any(entries):
        return set(lines)
    # The files of LFW begin with counts; elsewhere a number alone is a name, as in CASIA-WebFace.
    plain = {line for line, entry in zip(lines, entries, strict=True) if entry is None}
    names = {line for line in plain if not re.fullmatch(r"\d+(\s+\d+)?", line)}
    return names.union(*({e["first"], e["second"] or e["first"]} for e in entries if e))


def exclude(people: People, names: Collection[str], min_images: int = 1) -> dict[str, list[str]]:
    """Return the people without those named, and without those of fewer than `min_images`.

    Names are compared without case, and without what is no letter or digit: ``Jo_Ann``, ``jo ann``.
    """
    folded = {_folded(name) for name in names}
    return {
        identity: images
        for identity, images in people.items()
        if _folded(identity) not in folded and len(images) >= min_images
    }


def _folded(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def split(
    people: People, fraction: float, by: Literal["people", "images"] = "people", seed: int = 0
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return a training part and a validation part.

    Parameters
    ----------
    people : mapping
    fraction : float
        Of people, or of every person's images, that go to validation, rounded; at least one
        person, and never a person's only image.
    by : {"people", "images"}
        Whether the parts share no person, or all of them.
    seed : int
    """
    if not 0 < fraction < 1:
        raise SphereFaceError(f"a fraction of {fraction}", expected="between 0 and 1")
    rng = np.random.default_rng(seed)
    if by == "people":
        names = list(people)
        if len(names) < 2:
            raise SphereFaceError("one person cannot be split", fix="split by images")
        count = min(max(round(fraction * len(names)), 1), len(names) - 1)
        chosen = set(rng.permutation(len(names))[:count].tolist())
        parts = [
            {name: people[name] for index, name in enumerate(names) if (index in chosen) == kept}
            for kept in (False, True)
        ]
        return parts[0], parts[1]
    train, validation = {}, {}
    for name, images in people.items():
        count = min(round(fraction * len(images)), len(images) - 1)
        chosen = set(rng.permutation(len(images))[:count].tolist())
        train[name] = [image for index, image in enumerate(images) if index not in chosen]
        validation[name] = [image for index, image in enumerate(images) if index in chosen]
    return train, validation


def write_list(
    path: str | os.PathLike[str], people: People, place: Callable[[str], str] = str
) -> int:
    """Write ``image label`` lines, labels from 0 in the people's order; return their number.

    Parameters
    ----------
    path : path
    people : mapping
        One without images has a label, but no line.
    place : callable
        Turns a picture's name into what the list says.

    Raises
    ------
    SphereFaceError
        A name cannot stand in a list, because it has a line's end in it.
    """
    lines = []
    for label, images in enumerate(people.values()):
        for image in images:
            name = place(image)
            if _UNSUITABLE.search(name):
                raise SphereFaceError(
                    f"the picture {name!r}", expected="a name that fits in a line", fix="rename it"
                )
            lines.append(f"{name} {label}\n")
    if not lines:
        raise SphereFaceError("nobody is left for the list", where=os.fspath(path))
    with atomic_path(path) as temporary:
        temporary.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    return len(lines)
