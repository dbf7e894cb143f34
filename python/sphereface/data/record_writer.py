"""Writing an LMDB of records.

Source: Caffe's db_lmdb.cpp, which commits every 1000 records in its tools and doubles the map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphereface.data.record_file import lmdb_module
from sphereface.errors import SphereFaceError

__all__ = ["RecordWriter"]

_COMMIT = 1000  # records a transaction, as in Caffe
_MAP_SIZE = 1 << 28


class RecordWriter:
    """Appends records to a new LMDB and lets it grow; a context manager, which writes the last.

    Parameters
    ----------
    folder : path
        Of the LMDB; it exists and is empty.
    """

    def __init__(self, folder: Path) -> None:
        self._lmdb, self._folder = lmdb_module(), folder
        self._env: Any = self._lmdb.open(str(folder), map_size=_MAP_SIZE, lock=False)
        self._waiting: list[tuple[bytes, bytes]] = []
        self._longest_key = self._env.max_key_size()

    def put(self, key: bytes, record: bytes) -> None:
        """Append a record; keys go up."""
        if len(key) > self._longest_key:
            raise SphereFaceError(
                f'a key of {len(key)} bytes ("{key[:60].decode("utf-8", "replace")}...")',
                expected=f"at most {self._longest_key}",
                fix="move the common part of the names to the root folder",
            )
        self._waiting.append((key, record))
        if len(self._waiting) >= _COMMIT:
            self._commit()

    def _commit(self) -> None:
        while self._waiting:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, record in self._waiting:
                        transaction.put(key, record)
            except self._lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
                continue
            except self._lmdb.Error as error:
                raise SphereFaceError(f"LMDB cannot be written ({error})") from None
            self._waiting.clear()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            self._env.close()
        (self._folder / "lock.mdb").unlink(missing_ok=True)
