"""Rows and names on their way to a file whose format wants their number first.

Both go to temporary files as they come, so that memory holds a batch, whatever the number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sphereface.errors import SphereFaceError

__all__ = ["NameSpool", "RowSpool"]

_CHUNK = 1 << 16  # names read back at a time
_END = b"\0"  # the one byte that no file's name holds


class RowSpool:
    """An ``.npy`` file of float32 that grows by rows; a context manager, which completes it.

    Parameters
    ----------
    path : path
        File to write.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.width = path, 0, 0
        self._stream = path.open("w+b")

    def append(self, array: np.ndarray) -> None:
        """Add rows (N, d); d is the same each time."""
        if not self.rows:
            self.width = array.shape[1]
            self._write_header()
        if array.shape[1] != self.width:
            raise SphereFaceError(
                f"{array.shape[1]} values a record after {self.width}",
                expected="as many for every record",
                fix="resize the images to one size",
            )
        self.rows += len(array)
        self._stream.write(np.ascontiguousarray(array, "<f4").data)

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(self, *raised: object) -> None:
        """Write the number of rows into the header, and close the file."""
        if raised == (None, None, None):
            self._write_header()
        self._stream.close()

    def array(self) -> np.ndarray:
        """Return all rows (n, d), mapped from the closed file."""
        if not self.rows:
            return np.empty((0, self.width), np.float32)
        mapped: np.ndarray = np.load(self.path, mmap_mode="r")
        return mapped

    def _write_header(self) -> None:
        # numpy leaves room for the first axis to grow, so the header's length stays.
        self._stream.seek(0)
        np.lib.format.write_array_header_1_0(
            self._stream,
            {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self.width)},
        )


class NameSpool:
    """Names that are read back in their order, once the context manager has closed them.

    Attributes
    ----------
    count : int
        How many.
    longest : int
        Characters of the longest.
    """

    def __init__(self, path: Path) -> None:
        self.count, self.longest = 0, 1
        self._path = path
        self._stream = path.open("wb")

    def append(self, names: Sequence[str]) -> None:
        """Add names."""
        self.count += len(names)
        self.longest = max(self.longest, *map(len, names), 1)
        for name in names:
            self._stream.write(name.encode("utf-8", "surrogateescape") + _END)

    def __enter__(self) -> NameSpool:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stream.close()

    def chunks(self) -> Iterator[list[str]]:
        """Yield the names of the closed file, a bounded number at a time."""
        rest = b""
        with self._path.open("rb") as stream:
            while data := stream.read(_CHUNK):
                *names, rest = (rest + data).split(_END)
                yield [name.decode("utf-8", "surrogateescape") for name in names]
