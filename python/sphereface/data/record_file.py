"""An LMDB of Datum records, as convert_imageset makes it.

Source: Caffe's db_lmdb.cpp. What differs: several readers in one process share the opened file,
which LMDB requires; LevelDB is not read. lmdb is an extra, imported here only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphereface.data.datum import read_datum
from sphereface.errors import SphereFaceError
from sphereface.extras import require

__all__ = ["LMDB_FILES", "RecordFile", "lmdb_module"]

# What the folder of an LMDB holds.
LMDB_FILES = ("data.mdb", "lock.mdb")


def lmdb_module() -> Any:
    """Return the package lmdb.

    Raises
    ------
    SphereFaceError
        It is not installed.
    """
    return require("lmdb", "data")


class RecordFile:
    """An LMDB whose records are found by key; `key` gives the keys by number.

    Threads may call `value` and `key_after` at the same time; `key` belongs to one.

    Parameters
    ----------
    path : path
        The folder with ``data.mdb``, or a file.
    where : str
        Place for errors.

    Attributes
    ----------
    size : int
        Number of records.

    Raises
    ------
    SphereFaceError
        It is missing, a LevelDB, damaged or empty.
    """

    def __init__(self, path: str | os.PathLike[str], where: str = "") -> None:
        self.path = os.fspath(path)
        self.where = f"{where}: {self.path}" if where else self.path
        self._transaction: Any = None
        self._at = -1
        self._check_kind()
        self._env = _acquire(self.path, self.where)
        self.size = int(self._env.stat()["entries"])
        if not self.size:
            self.close()
            raise SphereFaceError("an LMDB without records", where=self.where)

    def key(self, index: int) -> bytes:
        """Return the key of record `index`; quick when the indices go up."""
        if self._transaction is None:
            self._transaction = self._env.begin()
            self._cursor = self._transaction.cursor()
        if self._at < 0 or index < self._at:
            self._cursor.first()
            self._at = 0
        while self._at < index:  # walks the keys; the values are not touched
            if not self._cursor.next():
                raise SphereFaceError(
                    f"no record {index} of {self.size}", where=self.where, fix="is it damaged?"
                )
            self._at += 1
        return bytes(self._cursor.key())

    def value(self, key: bytes) -> Any:
        """Return the Datum of a key.

        Raises
        ------
        SphereFaceError
            It is no Datum.
        """
        with self._env.begin(buffers=True) as transaction:
            return read_datum(transaction.get(key))

    def key_after(self, key: bytes) -> bytes:
        """Return the next key; after the last, the first."""
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            if not (cursor.set_key(key) and cursor.next()):
                cursor.first()
            return bytes(cursor.key())

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Yield each record's key and Datum."""
        with self._env.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            for key, value in cursor:
                try:
                    datum = read_datum(value)
                except SphereFaceError as error:
                    raise error.at(self.place(key)) from None
                yield bytes(key), datum

    def place(self, key: Any) -> str:
        """Return where a record is, for errors."""
        return f'{self.path}: key "{bytes(key).decode("utf-8", "backslashreplace")}"'

    def close(self) -> None:
        """Close the file, if nobody else here reads it."""
        if self._env is None:
            return
        if self._transaction is not None:
            self._cursor.close()
            self._transaction.abort()
        self._env = None
        _release(self.path)

    def _check_kind(self) -> None:
        path = Path(self.path)
        if not path.exists():
            raise SphereFaceError(
                "no such LMDB", where=self.where, fix="paths are relative to the current folder"
            )
        if path.is_dir() and not (path / "data.mdb").exists():
            leveldb = (path / "CURRENT").exists()
            raise SphereFaceError(
                "a LevelDB" if leveldb else "a folder without data.mdb",
                where=self.where,
                expected="an LMDB",
                fix="make one of the images: sphereface convert-imageset" if leveldb else "",
            )


_lock = threading.Lock()
_opened: dict[str, tuple[Any, int]] = {}  # real path: the environment and its number of readers


def _acquire(path: str, where: str) -> Any:
    real = os.path.realpath(path)
    with _lock:
        env, readers = _opened.get(real, (None, 0))
        if env is None:
            env = _open(real, where)
        _opened[real] = (env, readers + 1)
    return env


def _release(path: str) -> None:
    real = os.path.realpath(path)
    with _lock:
        env, readers = _opened.pop(real)
        if readers > 1:
            _opened[real] = (env, readers - 1)
        else:
            env.close()


def _open(path: str, where: str) -> Any:
    lmdb = lmdb_module()
    folder = Path(path).is_dir()
    try:
        env = lmdb.open(path, subdir=folder, readonly=True, lock=False)
    except lmdb.Error as error:
        raise SphereFaceError(f"not a readable LMDB ({error})", where=where) from None
    # LMDB maps the file, and a page beyond its end would kill the process.
    wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    found = (Path(path, "data.mdb") if folder else Path(path)).stat().st_size
    if found < wanted:
        env.close()
        raise SphereFaceError(
            f"{found} bytes", where=where, expected=f"{wanted}", fix="the LMDB is truncated"
        )
    return env
