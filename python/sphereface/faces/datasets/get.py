"""Fetch what the catalogue names, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sphereface.errors import SphereFaceError, nearest
from sphereface.faces.datasets.cache import cache_folder
from sphereface.faces.datasets.catalogue import CATALOGUE, RemoteFile, RemoteSet
from sphereface.faces.datasets.download import DownloadError, download, file_sha256
from sphereface.faces.datasets.unpack import unpack

__all__ = ["FetchedFile", "find_set", "get"]


class FetchedFile(NamedTuple):
    """A file that is here: its path, its sha256, and whether it had been there before."""

    path: Path
    sha256: str
    cached: bool


def find_set(name: str) -> RemoteSet:
    """Return an entry of the catalogue.

    Raises
    ------
    SphereFaceError
        There is none of that name.
    """
    if name not in CATALOGUE:
        raise SphereFaceError(
            f'nothing known as "{name}"',
            expected=f"one of {', '.join(CATALOGUE)}",
            fix=nearest(name, CATALOGUE),
        )
    return CATALOGUE[name]


def get(entry: RemoteSet, folder: Path | None = None, sha256: str = "") -> Iterator[FetchedFile]:
    """Fetch the files of an entry that are not there yet; archives are unpacked.

    Parameters
    ----------
    entry : RemoteSet
    folder : path, optional
        Where to; the cache's folder of that name without it.
    sha256 : str
        Of the file, where the entry has one file and knows none.

    Raises
    ------
    SphereFaceError
        A file cannot be had, or is another; the error tells where to put it by hand.
    """
    folder = cache_folder(entry.name) if folder is None else folder
    if sha256 and (len(entry.files) > 1 or entry.files[0].sha256):
        raise SphereFaceError(
            "--sha256 for what is known", where=entry.name, fix="leave it out, it is checked anyway"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in entry.files:
        yield _get(entry, file, folder, sha256 or file.sha256)


def _get(entry: RemoteSet, file: RemoteFile, folder: Path, wanted: str) -> FetchedFile:
    target = folder / file.name
    cached = target.exists()
    if cached:
        found = file_sha256(target)
        if wanted and found != wanted:
            raise SphereFaceError(
                f"sha256 {found}", where=str(target), expected=wanted, fix="remove it to fetch it"
            )
    else:
        try:
            found = download(file.urls, target, wanted)
        except DownloadError as error:
            raise DownloadError(
                error.problem,
                where=error.where,
                expected=error.expected,
                fix=f"without a network, put the file at {target} yourself; {entry.licence}",
            ) from None
    if file.unpack:
        _unpack(target, folder)
    return FetchedFile(target, found, cached)


def _unpack(archive: Path, folder: Path) -> None:
    done = archive.with_name(f"{archive.name}.unpacked")
    if done.exists():
        return
    unpack(archive, folder)
    done.touch()
