"""Unpacking of tar archives into a folder, and into nothing else.

tarfile's own filter for that came to Python 3.10.12 and 3.11.4 only.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Container
from pathlib import Path

from sphereface.errors import SphereFaceError

__all__ = ["unpack"]

_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
_BLOCK = 1 << 20


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    names: Container[str] | None = None,
) -> None:
    """Write the files of an archive.

    Parameters
    ----------
    archive : path
        A tar file, compressed or not.
    folder : path
        Where to.
    names : container of str, optional
        The members that are wanted; all without it.

    Raises
    ------
    SphereFaceError
        It is no archive, or a damaged one; a wanted member is outside of the folder, or neither a
        file nor a folder.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if names is None or member.name in names:
                    _extract(tar, member, Path(folder))
            # The check sums of gzip and xz stand behind the last member.
            while tar.fileobj and tar.fileobj.read(_BLOCK):
                pass
    except (*_BROKEN, OSError) as error:
        if getattr(error, "errno", None) is not None:  # those of gzip and bz2 have none
            raise
        raise SphereFaceError(f"no archive to unpack ({error})", where=os.fspath(archive)) from None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    target = (folder / member.name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise tarfile.TarError(f"{member.name!r} is outside the folder")
    if member.isdir():
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
