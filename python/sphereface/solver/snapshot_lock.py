"""One training at a time writes the snapshots of a prefix.

Two runs that share a ``snapshot_prefix`` overwrite each other's files. The lock is the kernel's
(flock), so it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import ClassVar

from sphereface.errors import SphereFaceError

__all__ = ["SnapshotLock"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # some network drives


class SnapshotLock:
    """Context manager that holds a prefix; within one process it may be entered again.

    Parameters
    ----------
    prefix : str
        The solver's ``snapshot_prefix``.

    Raises
    ------
    SphereFaceError
        On entering: another process holds the prefix (named by its id), or its folder is closed.
    """

    # Process and file: a descriptor, then a -1 for each level within.
    _held: ClassVar[dict[tuple[int, Path], list[int]]] = {}

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        path = Path(prefix).resolve()
        self._path = path.with_name(f".{path.name}.lock")

    def __enter__(self) -> SnapshotLock:
        # A forked child has a copy of the table, but the lock is its parent's.
        levels = self._held.setdefault((os.getpid(), self._path), [])
        levels.append(-1 if levels else self._acquire())
        return self

    def __exit__(self, *raised: object) -> None:
        key = (os.getpid(), self._path)
        descriptor = self._held[key].pop()
        if not self._held[key]:
            del self._held[key]
            try:
                with contextlib.suppress(OSError):
                    self._path.unlink()  # before the lock goes, or it would be another's file
            finally:
                os.close(descriptor)

    def _acquire(self) -> int:
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise SphereFaceError(
                    f"no snapshot can be written there ({error.strerror})",
                    where=f'snapshot_prefix "{self.prefix}"',
                    fix="make the folder, or change snapshot_prefix",
                ) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    owner = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
                    os.close(descriptor)
                    raise SphereFaceError(
                        f"{owner or 'another process'} writes snapshots of that name now",
                        where=f'snapshot_prefix "{self.prefix}"',
                        fix="wait for its end, or give this training another snapshot_prefix",
                    ) from None
            if self._is_still_there(descriptor):
                os.truncate(descriptor, 0)
                owner = f"process {os.getpid()} on {socket.gethostname()}"
                os.pwrite(descriptor, owner.encode(), 0)
                return descriptor
            os.close(descriptor)

    def _is_still_there(self, descriptor: int) -> bool:
        """Tell whether the file was not removed by its last holder since it was opened."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False
