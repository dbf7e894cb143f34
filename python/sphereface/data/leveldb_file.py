"""A LevelDB of Datum records, Caffe's default database: read and written through plyvel.

Source: Caffe's db_leveldb.cpp. What differs: readers in one process share the opened database, for
LevelDB lets only one handle have it; the keys are read once at the start, because LevelDB does not
count its records. plyvel is an extra, imported here only.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphereface.data.datum import read_datum
from sphereface.data.record_file import Record
from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.progress import Progress

__all__ = ["LEVELDB_FILES", "LevelDbFile", "LevelDbWriter", "is_leveldb", "leveldb_module"]

# What the folder of a LevelDB holds, as shell patterns.
LEVELDB_FILES = ("CURRENT", "LOCK", "LOG", "LOG.old", "MANIFEST-*", "*.log", "*.ldb", "*.sst")

_COMMIT = 1000  # records a batch, as in Caffe
_OPTIONS = {"block_size": 1 << 16, "write_buffer_size": 1 << 28, "max_open_files": 100}  # Caffe's
_MANY = 1024  # MiB, from where on the reading of keys shows its progress
_LAST_WITH_WHEELS = (3, 12)


def leveldb_module() -> Any:
    """Return the package plyvel.

    Raises
    ------
    SphereFaceError
        It is not installed.
    """
    try:
        return require("plyvel", "leveldb")
    except SphereFaceError as error:
        if sys.version_info[:2] <= _LAST_WITH_WHEELS:
            raise
        raise SphereFaceError(
            f"{error.problem}, which reads and writes LevelDB, and it has no wheels for Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}",
            fix="use an LMDB (sphereface convert-imageset makes it of the images), or Python "
            "{}.{}".format(*_LAST_WITH_WHEELS),
        ) from error


def is_leveldb(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is the folder of a LevelDB."""
    return Path(path, "CURRENT").is_file()


class LevelDbFile:
    """The records of a LevelDB by number, in the order of their keys; threads may share it.

    Its methods are those of `RecordFile`.

    Parameters
    ----------
    path : path
        The folder.
    where : str
        Place for errors.

    Attributes
    ----------
    size : int
        Number of records.
    damage : list of SphereFaceError
        Empty: what LevelDB cannot read is an error at once.

    Raises
    ------
    SphereFaceError
        It is missing, damaged, empty or open in another process, or plyvel is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], where: str = "") -> None:
        self.path = os.fspath(path)
        self.where = f"{where}: {self.path}" if where else self.path
        self.damage: list[SphereFaceError] = []
        self._opened: _Opened | None = _acquire(self.path, self.where)
        self.size = len(self._opened.keys)
        if not self.size:
            self.close()
            raise SphereFaceError("a LevelDB without records", where=self.where)

    def record(self, index: int) -> Record:
        """Return record `index`."""
        return Record(self._database.keys[index], None)

    def datum(self, record: Record) -> Any:
        """Return the Datum of a record.

        Raises
        ------
        SphereFaceError
            It is no Datum, or damaged.
        """
        try:
            return read_datum(self._database.handle.get(record.key, verify_checksums=True))
        except leveldb_module().Error as error:
            raise SphereFaceError(f"damaged ({_told(error)})") from None

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Yield each record's key and Datum."""
        for index in range(self.size):
            record = self.record(index)
            try:
                datum = self.datum(record)
            except SphereFaceError as error:
                raise error.at(self.place(index)) from None
            yield record.key, datum

    def place(self, index: int) -> str:
        """Return where a record is, for errors."""
        key = self.record(index).key.decode("utf-8", "backslashreplace")
        return f'{self.path}: key "{key}"'

    def close(self) -> None:
        """Close the database, if nobody else here reads it."""
        if self._opened is not None:
            self._opened = None
            _release(self.path)

    @property
    def _database(self) -> _Opened:
        assert self._opened is not None
        return self._opened


class LevelDbWriter:
    """Appends records to a new LevelDB; a context manager, which writes the last.

    Parameters
    ----------
    folder : path
        Of the LevelDB; it exists and is empty.
    """

    def __init__(self, folder: Path) -> None:
        plyvel = leveldb_module()
        self._handle = plyvel.DB(str(folder), create_if_missing=True, **_OPTIONS)
        self._waiting: list[tuple[bytes, bytes]] = []

    def put(self, key: bytes, record: bytes) -> None:
        """Append a record; keys go up."""
        self._waiting.append((key, record))
        if len(self._waiting) >= _COMMIT:
            self._commit()

    def _commit(self) -> None:
        try:
            with self._handle.write_batch() as batch:
                for key, record in self._waiting:
                    batch.put(key, record)
        except leveldb_module().Error as error:
            raise SphereFaceError(f"LevelDB cannot be written ({_told(error)})") from None
        self._waiting.clear()

    def __enter__(self) -> LevelDbWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            self._handle.close()


@dataclass
class _Opened:
    handle: Any
    keys: list[bytes]
    readers: int


_lock = threading.Lock()
_by_path: dict[str, _Opened] = {}


def _acquire(path: str, where: str) -> _Opened:
    real = os.path.realpath(path)
    with _lock:
        if real not in _by_path:
            _by_path[real] = _open(real, where)
        _by_path[real].readers += 1
        return _by_path[real]


def _release(path: str) -> None:
    real = os.path.realpath(path)
    with _lock:
        _by_path[real].readers -= 1
        if not _by_path[real].readers:
            _by_path.pop(real).handle.close()


def _open(path: str, where: str) -> _Opened:
    if not Path(path).exists():
        raise SphereFaceError(
            "no such LevelDB", where=where, fix="paths are relative to the current folder"
        )
    if not is_leveldb(path):
        raise SphereFaceError("a folder without CURRENT", where=where, expected="a LevelDB")
    plyvel = leveldb_module()
    try:
        handle = plyvel.DB(path, **_OPTIONS)
        return _Opened(handle, _keys(handle, where), 0)
    except plyvel.Error as error:
        locked = "LOCK" in _told(error)
        raise SphereFaceError(
            f"not a readable LevelDB ({_told(error)})",
            where=where,
            fix="one process at a time may have a LevelDB open, in a folder that it may write to; "
            "for several make an LMDB: sphereface convert-imageset"
            if locked
            else "",
        ) from None


def _keys(handle: Any, where: str) -> list[bytes]:
    keys = []
    total = _mebibytes(handle, b"\xff" * 8)
    with (
        Progress(total, f"{where}: keys (MiB)") if total > _MANY else nullcontext() as progress,
        handle.iterator(include_value=False, verify_checksums=True) as cursor,
    ):
        for key in cursor:
            keys.append(key)
            if progress is not None and len(keys) % _COMMIT == 0:
                progress.update(max(_mebibytes(handle, key) - progress.done, 0))
    return keys


def _mebibytes(handle: Any, key: bytes) -> int:
    """Return how large the records before `key` are in the tables, about."""
    return int(handle.approximate_size(b"", key)) >> 20


def _told(error: Exception) -> str:
    message = error.args[0] if error.args else error
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
