"""Opening what the user names and writing what he asks for, each by one rule.

Opening: a pipe, a device or an endless file is never read without a bound; nothing waits for a
writer that does not come. Writing: nothing that the user had is lost. A target that exists is
refused unless he said that it may go, an input is never written over, a link is written through,
and a file appears whole or not at all.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from sphereface.errors import ExistsError, SphereFaceError
from sphereface.file_kinds import HEAD_BYTES, file_kind, is_binary

__all__ = [
    "atomic_folder",
    "atomic_path",
    "check_output",
    "decoded",
    "open_regular",
    "read_bytes",
    "read_text",
    "refuse_other_kinds",
]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Names of open streams. Behind one may stand a file that the shell opened, which is neither to be
# replaced nor to be written from its begin again.
_STREAM = re.compile(r"/dev/stdout|/dev/stderr|(?:/dev|/proc/self)/fd/(\d+)")


_BLOCK = 1 << 24


def open_regular(path: str | os.PathLike[str], what: str = "file") -> BinaryIO:
    """Open a file for reading, never a pipe, device, socket or folder.

    Parameters
    ----------
    path : path-like
    what : str
        What the file is to the user, e.g. ``"prototxt"``, for errors.

    Returns
    -------
    binary stream

    Raises
    ------
    SphereFaceError
        It is missing, unreadable or no regular file.
    """
    handle, _ = _open(path, what)
    return os.fdopen(handle, "rb")


def _open(path: str | os.PathLike[str], what: str) -> tuple[int, int]:
    """Return the descriptor and the size of a regular file."""
    where = os.fspath(path)
    try:
        # Without O_NONBLOCK the open of a pipe waits for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SphereFaceError(f"no such {what}", where=where) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise SphereFaceError(f"{what} cannot be read ({reason})", where=where) from None
    status = os.fstat(handle)
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        found = _KINDS.get(kind, "no regular file")
        raise SphereFaceError(found, where=where, expected=f"a {what}: a regular file")
    return handle, status.st_size


def read_bytes(path: str | os.PathLike[str], *, limit: int, what: str = "file") -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises
    ------
    SphereFaceError
        As `open_regular`; or it is larger, or grows beyond it while it is read.
    """
    handle, size = _open(path, what)
    # Without a stream object, which takes as long to make as a small picture to read.
    try:
        data = os.read(handle, size + 1) if size <= limit else b""
        # A read may be short; the file may have grown, or tell no size, as in /proc.
        while len(data) != size and len(data) <= limit and size <= limit:
            more = os.read(handle, min(limit + 1 - len(data), _BLOCK))
            if not more:
                break
            data += more
    except OSError as error:
        raise SphereFaceError(
            f"{what} cannot be read ({error.strerror})", where=os.fspath(path)
        ) from None
    finally:
        os.close(handle)
    if size > limit or len(data) > limit:
        found = f"{what} of {max(size, len(data)):,} bytes"
        raise SphereFaceError(found, where=os.fspath(path), expected=f"at most {limit:,} bytes")
    return data


def read_text(path: str | os.PathLike[str], *, limit: int, what: str = "file") -> str:
    """Return the text of a file of at most `limit` bytes; as `read_bytes` and `decoded`.

    A file that is plainly no text, or a page in place of it, is an error that says what it is.
    """
    data = read_bytes(path, limit=limit, what=what)
    kind = file_kind(data)
    if kind and not kind.structured:
        raise SphereFaceError(
            kind.what, where=os.fspath(path), expected=f"a {what}, which is text", fix=kind.fix
        )
    if b"\0" in data[:HEAD_BYTES] and is_binary(data[:HEAD_BYTES]):
        raise SphereFaceError(
            "a binary file", where=os.fspath(path), expected=f"a {what}, which is text"
        )
    return decoded(data)


def decoded(data: bytes) -> str:
    """Return a text in UTF-8, or in UTF-16 if it begins with a mark of it, as Windows writes.

    Bytes that are no UTF-8 become surrogates, so that the names of files in a list survive.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def refuse_other_kinds(path: str | os.PathLike[str], expected: str) -> None:
    """Raise if a file is of a kind that `sphereface.file_kinds` knows, and so is not `expected`.

    Raises
    ------
    SphereFaceError
        It is, or it is empty; or it cannot be read.
    """
    with open_regular(path) as stream:
        head = stream.read(HEAD_BYTES)
    where = os.fspath(path)
    if not head:
        raise SphereFaceError("an empty file", where=where, expected=expected)
    if kind := file_kind(head):
        raise SphereFaceError(kind.what, where=where, expected=expected, fix=kind.fix)


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
    holds: Collection[str] = (),
) -> None:
    """Raise unless `path` may be written; for asking before a long run.

    A device or pipe (``/dev/stdout``) may always.

    Parameters
    ----------
    path : path-like
    overwrite : bool
        Whether what is there may be replaced (``--overwrite``).
    inputs : iterable of path-like
        What the run reads, which is never replaced.
    holds : collection of str
        Names (or shell patterns) of the files in it, where the output is a folder; one with others
        is never replaced.

    Raises
    ------
    SphereFaceError
        It exists (`ExistsError`), is an input or a folder with one in it, is a folder in place of a
        file or the other way round, or lies in a folder that does not exist.
    """
    target, where = Path(path), os.fspath(path)
    if not holds and _is_stream(target):
        return
    if not target.exists():
        # A broken link is written through, into a folder that must exist too.
        folder = target.resolve().parent
        if not folder.is_dir():
            raise SphereFaceError(f"no folder {folder}", where=where, fix="make it first")
        return
    for name in inputs:
        with contextlib.suppress(OSError):
            if target.samefile(name):
                raise SphereFaceError(
                    "the output is an input", where=where, fix="write to another file"
                )
            if holds and target.samefile(Path(name).parent):
                raise SphereFaceError(
                    f"the output holds an input, {Path(name).name}",
                    where=where,
                    fix="write to another folder",
                )
    if target.is_dir() != bool(holds):
        found, expected = ("a file", "a folder") if holds else ("a folder", "a file")
        raise SphereFaceError(found, where=where, expected=f"{expected} to write")
    names = sorted(entry.name for entry in target.iterdir()) if holds else []
    if others := [name for name in names if not any(fnmatchcase(name, kind) for kind in holds)]:
        raise SphereFaceError(
            f"a folder that holds {others[0]}", where=where, expected=f"only {', '.join(holds)}"
        )
    if not overwrite:
        raise ExistsError(where)


def _open_stream(target: Path) -> BinaryIO:
    named = _STREAM.fullmatch(os.fspath(target))
    if not named:
        return target.open("wb")
    number = int(named[1] or (2 if named[0].endswith("err") else 1))
    if number == 1:
        sys.stdout.flush()
    return os.fdopen(os.dup(number), "wb")


def _is_stream(target: Path) -> bool:
    """Tell a device, a pipe or a name of an open stream, which is written into where it is."""
    if _STREAM.fullmatch(os.fspath(target)):
        return True
    return target.exists() and not target.is_file() and not target.is_dir()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block succeeds.

    A reader sees the old file or the whole new one, whatever happens in between; when the block
    raises, the temporary file is removed and `path` is untouched. The temporary name keeps the
    suffix of `path`, because writers such as matplotlib choose the format by it. A symbolic link
    stays and the file that it means is replaced; into a device or pipe the result is copied.

    Raises
    ------
    FileNotFoundError
        The folder of `path` does not exist.
    """
    target = Path(path)
    stream = _is_stream(target)
    if target.is_symlink() and not stream:
        target = target.resolve()
    if not stream and not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", os.fspath(target.parent))
    handle, name = tempfile.mkstemp(
        dir=None if stream else target.parent, prefix=f".{target.stem}.", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if stream:
            with temporary.open("rb") as source, _open_stream(target) as sink:
                shutil.copyfileobj(source, sink)
            temporary.unlink()
            return
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes 0600; a new file should have the permissions that open() would have given.
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes that name when the block succeeds.

    What was there goes once the new one is whole; ask `check_output` before whether it may. When
    the block raises, the temporary folder is removed and `path` is untouched.
    """
    target = Path(path).resolve()
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    old = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
