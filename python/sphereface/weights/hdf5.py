"""`.caffemodel.h5`: Caffe's HDF5 layout `data/<layer>/<index>`, and guarded access to HDF5 files.

Source: Net::ToHDF5, Net::CopyTrainedLayersFromHDF5 and Caffe's util/hdf5. What differs: links that
leave the file, loops, virtual and externally stored datasets are refused, and sizes are bounded
before anything is read. h5py is an extra, imported here only.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import atomic_path, open_regular, refuse_other_kinds
from sphereface.weights.blob import Blob, check_shape

__all__ = [
    "PROTOTXT",
    "H5Reader",
    "is_hdf5",
    "open_writer",
    "read_caffemodel_h5",
    "write_array",
    "write_caffemodel_h5",
    "write_string",
]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PROTOTXT = "prototxt"
"""Dataset of the net's text beside the groups of Caffe, which does not look at it."""

_DATA, _DIFF = "data", "diff"

MAX_LINKS = 1 << 16
MAX_DEPTH = 16  # a layer "a/b" lies in nested groups

# Filters (gzip) may hold zeros in next to nothing; this much may a file unpack to.
_UNPACKED_FREE, _UNPACKED_RATIO = 1 << 28, 4

MAX_STRING = 1 << 16

# HDF5's global heap: a variable-length value (length, heap, index), the heap's head (signature and
# version, size) and each object's head (index, size).
_VLEN, _HEAP, _HEAP_OBJECT = struct.Struct("<IQI"), struct.Struct("<8sQ"), struct.Struct("<H6xQ")
_HEAP_SIGNATURE = b"GCOL\1\0\0\0"

# What h5py raises on damaged files, by the layer that notices.
_H5_ERRORS = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError, EOFError
)  # fmt: skip


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell by its first bytes whether a file is HDF5; False for what is not a readable file."""
    file = Path(path)
    try:
        if not file.is_file():
            return False
        with open_regular(file) as stream:
            return stream.read(len(_SIGNATURE)) == _SIGNATURE
    except (OSError, SphereFaceError):
        return False


def read_caffemodel_h5(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray | None]]:
    """Return {layer name: [arrays]} of an HDF5 caffemodel.

    None stands for a blob that the file leaves out because another layer owns it (Caffe saves
    shared parameters once).

    Raises
    ------
    SphereFaceError
        The file is damaged, has no group "data", or holds anything but datasets of floats there.
    """
    with H5Reader.open(path) as reader:
        return dict(reader.layers(_DATA))


def write_caffemodel_h5(
    path: str | os.PathLike[str],
    layers: Mapping[str, Sequence[Blob | np.ndarray | None]],
    prototxt: str = "",
) -> None:
    """Write an HDF5 caffemodel that the original Caffe loads, atomically.

    Parameters
    ----------
    path : path-like
        File to write.
    layers : mapping of str to sequence of Blob, ndarray or None
        Blobs of every layer, an empty sequence for those without; None leaves a shared one out.
        Diffs, where a blob has one, go into the group "diff".
    prototxt : str
        Text of the net, so that the file alone is enough, as a binary caffemodel is.
    """
    with open_writer(path) as file:
        if prototxt:
            write_string(file, PROTOTXT, prototxt)
        file.create_group(_DATA)
        for name, blobs in layers.items():
            where = f'{os.fspath(path)}: layer "{name}"'
            if not name or any(part in ("", ".") for part in name.split("/")):
                raise SphereFaceError("a name that HDF5 cannot hold", where=where)
            file.require_group(f"{_DATA}/{name}")
            for index, item in enumerate(blobs):
                if item is None:
                    continue
                blob = item if isinstance(item, Blob) else Blob(item)
                write_array(file, f"{_DATA}/{name}/{index}", blob.data, where)
                if blob.diff is not None:
                    write_array(file, f"{_DIFF}/{name}/{index}", blob.diff, where)


def write_array(file: Any, name: str, array: np.ndarray, where: str) -> None:
    """Write one dataset as Caffe does: contiguous, float32 (float64 stays)."""
    problem = check_shape(array.shape)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        problem = f"an array of {array.dtype}"
    if problem:
        raise SphereFaceError(problem, where=where, expected="an array that a Caffe blob can hold")
    stored = "<f8" if array.dtype.itemsize == 8 else "<f4"
    file.create_dataset(name, data=np.asarray(array, stored), track_times=False)


def write_string(file: Any, name: str, text: str) -> None:
    """Write one string as H5LTmake_dataset_string does: fixed size, closed by a zero byte."""
    h5py = _h5py()
    value = text.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(value))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space)
    dataset.write(space, space, np.array(value, f"S{len(value)}"), kind)


@contextlib.contextmanager
def open_writer(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield an h5py file that takes the place of `path` when the block succeeds."""
    h5py = _h5py()
    # The oldest format, which the HDF5 of any Caffe build reads.
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="earliest") as file:
        yield file


class H5Reader:
    """An open HDF5 file whose groups and datasets are checked before they are touched."""

    def __init__(self, file: Any, path: str) -> None:
        self._file, self.path = file, path
        self._links_left = MAX_LINKS
        size = Path(path).stat().st_size
        self._bytes_left = _UNPACKED_FREE + _UNPACKED_RATIO * size

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str | os.PathLike[str]) -> Iterator[H5Reader]:
        """Open `path`; whatever h5py raises inside the block becomes a SphereFaceError."""
        h5py, source = _h5py(), os.fspath(path)
        if not is_hdf5(path):
            if Path(path).is_file():
                refuse_other_kinds(path, "an HDF5 file that Caffe wrote")
            problem = "not an HDF5 file" if Path(path).exists() else "no such file"
            raise SphereFaceError(problem, where=source, expected="a file that Caffe wrote")
        try:
            # No page cache of chunks: one read is all that each dataset gets.
            with h5py.File(source, "r", rdcc_nbytes=0, locking=False) as file:
                yield cls(file, source)
        except SphereFaceError:
            raise
        except _H5_ERRORS as error:
            text = str(error).split("\n")[0] or type(error).__name__
            raise SphereFaceError(
                f"HDF5 cannot read it: {text}",
                where=source,
                expected="a whole file",
                fix="the file is truncated or damaged",
            ) from error

    def error(self, name: str, problem: str, expected: str) -> SphereFaceError:
        """Return the error that names the file and the object in it."""
        return SphereFaceError(problem, where=f"{self.path}: {name[:200]}", expected=expected)

    def member(self, group: Any, name: str) -> Any:
        """Return a member of `group` that lies in this file, reached by a hard link."""
        h5py = _h5py()
        full = f"{group.name.rstrip('/')}/{name}"
        self._links_left -= 1
        if self._links_left < 0:
            raise self.error(full, f"more than {MAX_LINKS} objects", "a model's file")
        link = group.get(name, getlink=True)
        if link is None:
            raise self.error(full, "missing", "a file in Caffe's layout")
        if not isinstance(link, h5py.HardLink):
            kind = "an external link" if isinstance(link, h5py.ExternalLink) else "a soft link"
            raise self.error(full, kind, "a group or dataset of this file")
        return group[name]

    def group(self, parent: Any, name: str) -> Any:
        """Return a member that must be a group."""
        item = self.member(parent, name)
        if not isinstance(item, _h5py().Group):
            raise self.error(item.name, f"a {type(item).__name__.lower()}", "a group")
        return item

    def holds(self, name: str) -> bool:
        """Tell whether the root has a member `name`."""
        return name in self._file

    def layers(self, name: str) -> Iterator[tuple[str, list[np.ndarray | None]]]:
        """Yield each layer's name and blobs under the root's group `name`."""
        yield from self._layers(self.group(self._file, name), "", MAX_DEPTH)

    def _layers(
        self, group: Any, layer: str, depth: int
    ) -> Iterator[tuple[str, list[np.ndarray | None]]]:
        if depth == 0:
            raise self.error(layer, f"groups nested {MAX_DEPTH} deep", "data/<layer>/<index>")
        h5py, groups, datasets = _h5py(), [], []
        for name in group:
            item = self.member(group, name)
            if isinstance(item, h5py.Dataset) and layer:
                datasets.append(name)
            else:
                groups.append(name)
        if layer and (datasets or not groups):
            yield layer, self.arrays(group, datasets)
        for name in groups:
            inner = f"{layer}/{name}" if layer else name
            yield from self._layers(self.group(group, name), inner, depth - 1)

    def sequence(self, name: str) -> list[np.ndarray | None]:
        """Return the datasets 0, 1, 2, ... of the root's group `name`."""
        group = self.group(self._file, name)
        return self.arrays(group, list(group))

    def arrays(self, group: Any, names: Sequence[str]) -> list[np.ndarray | None]:
        """Return the datasets `names` of `group` in the order of their numbers, None in gaps."""
        arrays: dict[int, np.ndarray] = {}
        for name in names:
            dataset = self.member(group, name)
            if not (name.isascii() and name.isdigit() and int(name) < MAX_LINKS):
                raise self.error(dataset.name, "not the index of a blob", "0, 1, 2, ...")
            arrays[int(name)] = self.array(dataset)
        return [arrays.get(index) for index in range(max(arrays, default=-1) + 1)]

    def array(self, dataset: Any) -> np.ndarray:
        """Read a dataset of floats."""
        name = dataset.name
        dtype = self._dtype(dataset)
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise self.error(name, f"a dataset of {dtype}", "floats")
        if dataset.shape is None:
            raise self.error(name, "a dataset without a shape", "an array")
        problem = check_shape(dataset.shape)
        if problem:
            raise self.error(name, problem, "a shape that a Caffe blob can have")
        self._check_storage(dataset, math.prod(dataset.shape) * dtype.itemsize)
        return np.asarray(dataset[()], dtype.newbyteorder("<"))

    def integer(self, name: str) -> int:
        """Read the root's dataset `name` of one integer."""
        dataset = self.member(self._file, name)
        dtype = self._dtype(dataset)
        if dtype.kind not in "iu" or dataset.size != 1:
            raise self.error(dataset.name, f"a dataset of {dtype}", "one integer")
        self._check_storage(dataset, dtype.itemsize)
        return int(np.asarray(dataset[()]).reshape(())[()])

    def string(self, name: str) -> str:
        """Read the root's dataset `name` of one string."""
        dataset = self.member(self._file, name)
        dtype = self._dtype(dataset)
        if _h5py().check_string_dtype(dtype) is None or dataset.size != 1:
            raise self.error(dataset.name, f"a dataset of {dtype}", "one string")
        self._check_storage(dataset, dtype.itemsize)
        if _h5py().check_string_dtype(dtype).length is None:
            value = self._variable_string(dataset)
        else:
            value = bytes(np.asarray(dataset[()]).reshape(())[()])
        return value.split(b"\0")[0].decode("utf-8", "backslashreplace")

    def _variable_string(self, dataset: Any) -> bytes:
        """Follow a variable-length string into its global heap without libhdf5.

        libhdf5 2.0 does not return from a heap with an object of a damaged size.
        """
        begin = dataset.id.get_offset()
        if begin is None or self._file.id.get_create_plist().get_sizes() != (8, 8):
            raise self.error(dataset.name, "a string in no heap of 64 bits", "a string Caffe wrote")
        with Path(self.path).open("rb") as stream:
            stream.seek(begin)
            length, heap, wanted = _VLEN.unpack(_exactly(stream, _VLEN.size))
            stream.seek(min(heap, 2**62))
            signature, left = _HEAP.unpack(_exactly(stream, _HEAP.size))
            left -= _HEAP.size
            while signature == _HEAP_SIGNATURE and left >= _HEAP_OBJECT.size:
                index, size = _HEAP_OBJECT.unpack(_exactly(stream, _HEAP_OBJECT.size))
                padded = (size + 7) // 8 * 8
                left -= _HEAP_OBJECT.size + padded
                if index == 0 or left < 0:
                    break
                if index == wanted and length <= size:
                    return _exactly(stream, min(length, MAX_STRING))
                stream.seek(padded, os.SEEK_CUR)
        raise self.error(dataset.name, "a string that its heap does not hold", "a whole file")

    def _dtype(self, dataset: Any) -> np.dtype[Any]:
        if not isinstance(dataset, _h5py().Dataset):
            raise self.error(dataset.name, f"a {type(dataset).__name__.lower()}", "a dataset")
        dtype: np.dtype[Any] = dataset.dtype
        return dtype

    def _check_storage(self, dataset: Any, size: int) -> None:
        """Refuse values that lie outside the file, were never written, or unpack without bound."""
        plist = dataset.id.get_create_plist()
        if dataset.external or plist.get_layout() == _h5py().h5d.VIRTUAL:
            raise self.error(dataset.name, "values stored in another file", "values in this file")
        if not plist.get_nfilters() and dataset.id.get_storage_size() < size:
            raise self.error(
                dataset.name, f"{dataset.id.get_storage_size()} bytes of values", f"{size}"
            )
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise self.error(dataset.name, "values that unpack to too much memory", "a model")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("a string's heap lies beyond the end of the file")
    return data


def _h5py() -> Any:
    return require("h5py", "hdf5")
