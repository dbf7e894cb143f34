"""Files that features are streamed into, chosen by suffix; memory holds a batch of them.

``.npz`` (``path``, ``features``), ``.npy`` with ``.paths.txt``, ``.h5``, ``.mat``, and ``.lmdb``.

Source: Caffe's tools/extract_features.cpp, for the LMDB of Datums. What differs: names are kept.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sphereface.data.datum import float_datum
from sphereface.data.record_writer import RecordWriter
from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import atomic_folder, atomic_path
from sphereface.inference.mat import write_mat
from sphereface.inference.spool import NameSpool, RowSpool
from sphereface.weights.hdf5 import open_writer

__all__ = ["SUFFIXES", "Sink", "check_sink", "open_sink"]

_PATH, _FEATURES = "path", "features"


class Sink(ABC):
    """Takes blobs batch by batch; `open_sink` makes one and finishes it.

    Parameters
    ----------
    folder : path
        For temporary files, beside the target.
    target : path
        The file to appear.
    blobs : sequence of str
        Names of the blobs of every batch; one alone is called ``features``.
    stack : ExitStack
        Closes what is open, also after a failure.
    """

    def __init__(
        self, folder: Path, target: Path, blobs: Sequence[str], stack: contextlib.ExitStack
    ) -> None:
        self.folder, self.target, self.stack = folder, target, stack
        self.fields = {name: _FEATURES if len(blobs) == 1 else name for name in blobs}

    @abstractmethod
    def write(self, names: Sequence[str], blobs: Mapping[str, np.ndarray]) -> None:
        """Add records: their names, and of each blob a row (or more axes) for each."""

    @abstractmethod
    def finish(self) -> None:
        """Put the whole file in the place of the target."""


class _Spooled(Sink):
    """A format that is written when the number of records is known."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names = self.stack.enter_context(NameSpool(self.folder / "names"))
        self.rows = {
            field: self.stack.enter_context(RowSpool(self.folder / f"{index}.npy"))
            for index, field in enumerate(self.fields.values())
        }

    def write(self, names: Sequence[str], blobs: Mapping[str, np.ndarray]) -> None:
        self.names.append(names)
        for name, field in self.fields.items():
            self.rows[field].append(_flat(blobs[name]))

    def finish(self) -> None:
        self.stack.close()
        self.assemble()

    @abstractmethod
    def assemble(self) -> None:
        """Write the target from the closed spools."""


class _Npz(_Spooled):
    def assemble(self) -> None:
        with (
            atomic_path(self.target) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        ):
            with archive.open(f"{_PATH}.npy", "w", force_zip64=True) as member:
                kind = np.dtype(f"<U{self.names.longest}")
                header = {"descr": kind.str, "fortran_order": False, "shape": (self.names.count,)}
                np.lib.format.write_array_header_1_0(member, header)
                for chunk in self.names.chunks():
                    member.write(np.array(chunk, kind).tobytes())
            for field, rows in self.rows.items():
                archive.write(rows.path, f"{field}.npy")


class _Npy(_Spooled):
    def assemble(self) -> None:
        _write_names(self.target.with_suffix(".paths.txt"), self.names)
        (rows,) = self.rows.values()
        with atomic_path(self.target) as temporary:
            rows.path.replace(temporary)


class _Mat(_Spooled):
    def assemble(self) -> None:
        with atomic_path(self.target) as temporary:
            write_mat(
                temporary, self.names, {field: rows.array() for field, rows in self.rows.items()}
            )


class _Hdf5(Sink):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._string = require("h5py", "hdf5").string_dtype("utf-8")
        self._path = self.folder / "features.h5"
        self._file = self.stack.enter_context(open_writer(self._path))

    def write(self, names: Sequence[str], blobs: Mapping[str, np.ndarray]) -> None:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._append(_PATH, np.array(encoded, object), self._string)
        for name, field in self.fields.items():
            self._append(field, _flat(blobs[name]), np.dtype("<f4"))

    def _append(self, name: str, array: np.ndarray, dtype: object) -> None:
        if name not in self._file:
            width = array.shape[1:]
            rows = max(1, (1 << 18) // max(1, *width, 1))  # chunks of a MiB
            self._file.create_dataset(
                name, (0, *width), dtype, maxshape=(None, *width), chunks=(rows, *width)
            )
        dataset = self._file[name]
        if dataset.shape[1:] != array.shape[1:]:
            raise SphereFaceError(
                f"{array.shape[1]} values a record after {dataset.shape[1]}",
                where=name,
                expected="as many for every record",
            )
        dataset.resize(len(dataset) + len(array), 0)
        dataset[-len(array) :] = array

    def finish(self) -> None:
        self.stack.close()
        with atomic_path(self.target) as temporary:
            self._path.replace(temporary)


class _Lmdb(Sink):
    """Keys are numbers of ten digits, as in the original; names are beside, in ``.paths.txt``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        (self._blob,) = self.fields
        self._names = self.stack.enter_context(NameSpool(self.folder / "names"))
        path = self.stack.enter_context(atomic_folder(self.target))
        self._writer = self.stack.enter_context(RecordWriter(path))
        self._count = 0

    def write(self, names: Sequence[str], blobs: Mapping[str, np.ndarray]) -> None:
        self._names.append(names)
        for row in blobs[self._blob]:
            # As Blob's legacy shape: (channels, height, width) with ones at the end.
            values = np.asarray(row, np.float32).reshape(*row.shape, *(1,) * (3 - row.ndim))
            if row.ndim > 3:
                values = values.reshape(-1, 1, 1)
            self._writer.put(f"{self._count:010d}".encode(), float_datum(values))
            self._count += 1

    def finish(self) -> None:
        self.stack.close()
        _write_names(self.target.with_suffix(".paths.txt"), self._names)


SUFFIXES: dict[str, Callable[..., Sink]] = {
    ".npz": _Npz,
    ".npy": _Npy,
    ".h5": _Hdf5,
    ".hdf5": _Hdf5,
    ".mat": _Mat,
    ".lmdb": _Lmdb,
}
"""Suffix of a file of features to what writes it."""

_ONE_BLOB = (".npy", ".lmdb")


def check_sink(path: Path, blobs: Sequence[str]) -> None:
    """Raise unless these blobs can be written to a file of that name.

    Raises
    ------
    SphereFaceError
        The suffix is unknown, the format holds one blob, or a blob is called ``path``.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SphereFaceError(
            f'the suffix "{suffix}"', where=str(path), expected=", ".join(SUFFIXES)
        )
    if len(blobs) != 1 and suffix in _ONE_BLOB:
        raise SphereFaceError(
            f"{len(blobs)} blobs ({', '.join(blobs)})",
            where=str(path),
            expected=f"one for {suffix}",
            fix="choose it by --blob, or write .npz, .h5 or .mat",
        )
    if len(blobs) > 1 and _PATH in blobs:
        raise SphereFaceError(
            f'a blob called "{_PATH}" among several', where=str(path), fix="write it alone"
        )


@contextlib.contextmanager
def open_sink(path: Path, blobs: Sequence[str]) -> Iterator[Sink]:
    """Yield a sink whose file takes the place of `path` when the block succeeds.

    Raises
    ------
    SphereFaceError
        See `check_sink`.
    """
    check_sink(path, blobs)
    folder = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}."))
    try:
        with contextlib.ExitStack() as stack:
            sink = SUFFIXES[path.suffix.lower()](folder, path, blobs, stack)
            yield sink
            sink.finish()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flat(blob: np.ndarray) -> np.ndarray:
    return np.asarray(blob, np.float32).reshape(len(blob), -1)


def _write_names(path: Path, names: NameSpool) -> None:
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as stream,
    ):
        for chunk in names.chunks():
            stream.writelines(f"{name}\n" for name in chunk)
