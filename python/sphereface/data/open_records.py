"""From the path of a database to its reader: an LMDB or a LevelDB, told by what is there."""

from __future__ import annotations

import os

from sphereface.data.leveldb_file import LevelDbFile, is_leveldb
from sphereface.data.record_file import RecordFile

__all__ = ["open_records"]


def open_records(path: str | os.PathLike[str], where: str = "") -> RecordFile | LevelDbFile:
    """Open a database of Datums.

    Parameters
    ----------
    path : path
        The folder, or the file of an LMDB.
    where : str
        Place for errors.

    Raises
    ------
    SphereFaceError
        It is missing, no database, damaged or empty.
    """
    return LevelDbFile(path, where) if is_leveldb(path) else RecordFile(path, where)
