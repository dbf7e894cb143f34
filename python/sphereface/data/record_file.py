"""An LMDB of Datum records, as convert_imageset makes it.

Source: Caffe's db_lmdb.cpp. What differs: the file is read page by page and not mapped, so damage
is an error that names the record; any number of readers, lmdb's own among them, may have it open.
"""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sphereface.data.datum import read_datum
from sphereface.data.lmdb_pages import Page, PageFile
from sphereface.errors import SphereFaceError
from sphereface.extras import require

__all__ = ["LMDB_FILES", "Record", "RecordFile", "lmdb_module"]

# What the folder of an LMDB holds.
LMDB_FILES = ("data.mdb", "lock.mdb")


def lmdb_module() -> Any:
    """Return the package lmdb, which writes; reading does not need it.

    Raises
    ------
    SphereFaceError
        It is not installed.
    """
    return require("lmdb", "data")


class Record(NamedTuple):
    """A record's key, and where its Datum lies in an LMDB."""

    key: bytes
    value: Any


class RecordFile:
    """The records of an LMDB by number, in the order of their keys; threads may share it.

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
    damage : list of SphereFaceError
        Pages that `record` found damaged so far. The records after them move up, so as many are
        missing at the end.

    Raises
    ------
    SphereFaceError
        It is missing, a LevelDB, damaged or empty.
    """

    def __init__(self, path: str | os.PathLike[str], where: str = "") -> None:
        self.path = os.fspath(path)
        self.where = f"{where}: {self.path}" if where else self.path
        self.damage: list[SphereFaceError] = []
        folder = self._check_kind()
        try:
            self._pages = PageFile(Path(path, "data.mdb") if folder else path)
        except SphereFaceError as error:
            raise SphereFaceError(
                error.problem, where=self.where, expected=error.expected, fix=error.fix
            ) from None
        self.size = self._pages.entries
        if not self.size:
            self.close()
            raise SphereFaceError("an LMDB without records", where=self.where)
        # The leaves met so far: the number of each one's first record, and its page.
        self._starts: list[int] = []
        self._numbers: list[int] = []
        self._found = 0
        self._further = self._pages.leaves()
        self._page: Page | None = None
        self._lock = threading.Lock()

    def record(self, index: int) -> Record:
        """Return record `index`; the tree is walked once, as far as needed.

        Raises
        ------
        SphereFaceError
            It is damaged, or one of those that damaged pages held; `place` says where that is.
        """
        with self._lock:
            while index >= self._found:
                if not self._meet_leaf():
                    raise self._lost(index)
            position = bisect.bisect_right(self._starts, index) - 1
            number = self._numbers[position]
            try:
                if self._page is None or self._page.number != number:
                    self._page = self._pages.leaf(number)
                slot = index - self._starts[position]
                key, value = self._pages.record(self._page, slot)
            except IndexError:
                raise SphereFaceError(f"page {number} has changed since it was read") from None
        return Record(key, value)

    def datum(self, record: Record) -> Any:
        """Return the Datum of a record.

        Raises
        ------
        SphereFaceError
            It is no Datum, or its pages are damaged.
        """
        return read_datum(self._pages.read(record.value))

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Yield each record's key and Datum."""
        for index in range(self.size):
            try:
                record = self.record(index)
                if self.damage:
                    raise self.damage[0]
                datum = self.datum(record)
            except SphereFaceError as error:
                raise error.at(self.place(index)) from None
            yield record.key, datum

    def place(self, index: int) -> str:
        """Return where a record is, for errors."""
        try:
            key = self.record(index).key.decode("utf-8", "backslashreplace")
        except SphereFaceError:
            return f"{self.path}: record {index}"
        return f'{self.path}: key "{key}"'

    def close(self) -> None:
        """Close the file."""
        self._pages.close()

    def _meet_leaf(self) -> bool:
        """Walk to the next leaf that can be read; False after the last."""
        for leaf in self._further:
            if isinstance(leaf, SphereFaceError):
                self.damage.append(leaf)
            else:
                self._starts.append(self._found)
                self._numbers.append(leaf.number)
                self._found += len(leaf.nodes)
                return True
        return False

    def _lost(self, index: int) -> SphereFaceError:
        why = f": {self.damage[0].problem}" if self.damage else ""
        return SphereFaceError(
            f"record {index} is not there{why}",
            expected=f"{self.size} records, of which {self._found} can be found",
        )

    def _check_kind(self) -> bool:
        """Tell whether it is a folder."""
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
                fix="say so: backend: LEVELDB" if leveldb else "",
            )
        return path.is_dir()
