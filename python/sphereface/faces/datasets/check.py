"""Whether a folder is the data set that it should be.

CASIA-WebFace and IMDb-Face cannot be fetched; a user's copy is checked: people, pictures, pictures
that cannot be read, and people who are also in a test set.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sphereface.errors import SphereFaceError, nearest
from sphereface.faces.lists import exclude, find_people
from sphereface.images import ImageError, image_header, read_image
from sphereface.progress import Progress

__all__ = ["KNOWN", "DatasetReport", "KnownSet", "check_dataset"]


@dataclass(frozen=True, slots=True)
class KnownSet:
    """What a whole copy has, as its authors tell, and the share by which they may have rounded."""

    people: int
    images: int
    source: str
    rounded: float = 0.0


KNOWN = {
    "casia": KnownSet(10_575, 494_414, "Yi et al. 2014, Learning Face Representation from Scratch"),
    "imdb": KnownSet(
        59000, 1700000, "Wang et al. 2018, The Devil of Face Recognition is in the Noise"
    ),
    "lfw": KnownSet(5_749, 13_233, "Huang et al. 2007, Labeled Faces in the Wild"),
}


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a folder holds.

    Parameters
    ----------
    people, images : int
    smallest, largest : int
        Pictures of the person with the fewest, and the most.
    single : int
        People with one picture.
    unreadable : dict of str to str
        Picture -> what is wrong with it.
    overlap : list of str
        People who are in the list of others.
    remarks : list of str
        Differences from a whole copy.
    """

    people: int
    images: int
    smallest: int
    largest: int
    single: int
    unreadable: dict[str, str]
    overlap: list[str]
    remarks: list[str]


def check_dataset(
    root: str | os.PathLike[str],
    known: str = "",
    others: Collection[str] = (),
    *,
    decode: bool = False,
) -> DatasetReport:
    """Look at every picture of a folder of people.

    Parameters
    ----------
    root : path
        ``root/identity/image``.
    known : str
        One of `KNOWN` to compare the counts with.
    others : collection of str
        People of a test set, who must not be trained on; compared as `lists.exclude` does.
    decode : bool
        Decode the pictures instead of reading their headers: finds more and takes longer.
    """
    if known and known not in KNOWN:
        raise SphereFaceError(
            f'no data set "{known}"', expected=", ".join(KNOWN), fix=nearest(known, KNOWN)
        )
    people = find_people(root)
    names = [name for images in people.values() for name in images]
    sizes = [len(images) for images in people.values()]
    return DatasetReport(
        people=len(people),
        images=len(names),
        smallest=min(sizes),
        largest=max(sizes),
        single=sum(size == 1 for size in sizes),
        unreadable=_unreadable(os.fspath(root), names, decode=decode),
        overlap=[name for name in people if name not in exclude(people, others)],
        remarks=_remarks(known, len(people), len(names)) if known else [],
    )


def _unreadable(root: str, names: Sequence[str], *, decode: bool) -> dict[str, str]:
    look = read_image if decode else image_header

    def problem(name: str) -> str:
        try:
            look(f"{root}/{name}")
        except ImageError as error:
            return error.problem
        return ""

    found = {}
    with ThreadPoolExecutor() as pool, Progress(len(names), "check") as progress:
        for name, text in zip(names, pool.map(problem, names), strict=True):
            if text:
                found[name] = text
            progress.update()
    return found


def _remarks(known: str, people: int, images: int) -> list[str]:
    expected = KNOWN[known]
    return [
        f"{found:,} {what}; a whole copy has {whole:,} ({expected.source})"
        for what, found, whole in (
            ("people", people, expected.people),
            ("pictures", images, expected.images),
        )
        if abs(found - whole) > expected.rounded * whole
    ]
