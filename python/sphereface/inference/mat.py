"""MATLAB files of single matrices and a cell array of strings, without holding them in memory.

Source: MathWorks' "MAT-File Format", level 5; a variable there has less than 2 GiB. Larger ones are
written as version 7.3, which is HDF5 behind a header of 512 bytes. scipy.io.savemat, which writes
level 5, holds a whole matrix in memory in MATLAB's order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sphereface.extras import require
from sphereface.inference.spool import NameSpool

__all__ = ["LARGEST", "write_mat"]

LARGEST = 2**31 - 1
"""Bytes that a variable of level 5 may have."""

_INT8, _UINT16, _INT32, _UINT32, _SINGLE, _MATRIX, _UTF16 = 1, 4, 5, 6, 7, 14, 17
_CELL_CLASS, _CHAR_CLASS, _SINGLE_CLASS = 1, 4, 7
_BLOCK = 1 << 21  # values transposed at a time
_TEXT = b"MATLAB 5.0 MAT-file, features by sphereface"
_TEXT_HDF5 = b"MATLAB 7.3 MAT-file, features by sphereface"
_NAMES = "path"


def write_mat(path: Path, names: NameSpool, matrices: Mapping[str, np.ndarray]) -> None:
    """Write ``path``, an n x 1 cell of names, and n x d matrices of singles.

    In version 7.3 ``path`` is an n x longest matrix of characters, filled up with spaces.

    Parameters
    ----------
    path : path
        File to write.
    names : NameSpool
        Closed.
    matrices : mapping of str to ndarray
        Name to rows (n, d) of float32; characters that MATLAB does not allow in a name become
        ``_``.
    """
    named = {_variable(name): array for name, array in matrices.items()}
    sizes = [array.nbytes for array in named.values()]
    sizes.append(sum(_cell_size(name) for chunk in names.chunks() for name in chunk))
    if max(sizes) + 1024 > LARGEST:
        _write_hdf5(path, names, named)
        return
    with path.open("wb") as stream:
        stream.write(_TEXT.ljust(124) + struct.pack("<HH", 0x0100, 0x4D49))
        _write_names(stream, names, sizes[-1])
        for name, array in named.items():
            _write_matrix(stream, name, array)


def _variable(name: str) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return (plain if plain[:1].isalpha() else f"x{plain}")[:63]


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _head(array_class: int, shape: tuple[int, int], name: str) -> bytes:
    return (
        _element(_UINT32, struct.pack("<II", array_class, 0))
        + _element(_INT32, struct.pack("<ii", *shape))
        + _element(_INT8, name.encode())
    )


def _write_matrix(stream: BinaryIO, name: str, array: np.ndarray) -> None:
    head = _head(_SINGLE_CLASS, (array.shape[0], array.shape[1]), name)
    padding = -array.nbytes % 8
    stream.write(struct.pack("<II", _MATRIX, len(head) + 8 + array.nbytes + padding) + head)
    stream.write(struct.pack("<II", _SINGLE, array.nbytes))
    # MATLAB keeps columns together.
    step = max(1, _BLOCK // max(1, len(array)))
    for begin in range(0, array.shape[1], step):
        stream.write(np.ascontiguousarray(array[:, begin : begin + step].T).data)
    stream.write(bytes(padding))


def _characters(name: str) -> bytes:
    # UTF-16 code units; a byte that is no UTF-8 is its surrogate.
    return name.encode("utf-16-le", "surrogatepass")


def _cell(name: str) -> bytes:
    data = _characters(name)
    head = _head(_CHAR_CLASS, (1 if data else 0, len(data) // 2), "")
    return _element(_MATRIX, head + _element(_UINT16 if name.isascii() else _UTF16, data))


def _cell_size(name: str) -> int:
    return len(_cell(name))


def _write_names(stream: BinaryIO, names: NameSpool, size: int) -> None:
    head = _head(_CELL_CLASS, (names.count, 1), _NAMES)
    stream.write(struct.pack("<II", _MATRIX, len(head) + size) + head)
    for chunk in names.chunks():
        stream.write(b"".join(map(_cell, chunk)))


def _write_hdf5(path: Path, names: NameSpool, matrices: Mapping[str, np.ndarray]) -> None:
    h5py = require("h5py", "hdf5")
    longest = max(1, max((len(_characters(n)) // 2 for c in names.chunks() for n in c), default=1))
    with h5py.File(path, "w", libver="earliest", userblock_size=512) as file:
        # MATLAB reads the axes in the opposite order.
        for name, array in matrices.items():
            dataset = file.create_dataset(name, array.shape[::-1], "<f4")
            dataset.attrs["MATLAB_class"] = np.bytes_("single")
            step = max(1, _BLOCK // max(1, array.shape[1]))
            for begin in range(0, len(array), step):
                dataset[:, begin : begin + step] = array[begin : begin + step].T
        dataset = file.create_dataset(_NAMES, (longest, names.count), "<u2")
        dataset.attrs["MATLAB_class"] = np.bytes_("char")
        dataset.attrs["MATLAB_int_decode"] = np.int32(2)
        begin = 0
        for chunk in names.chunks():
            padded = b"".join(_characters(name.ljust(longest))[: 2 * longest] for name in chunk)
            part = np.frombuffer(padded, "<u2").reshape(len(chunk), longest)
            dataset[:, begin : begin + len(chunk)] = part.T
            begin += len(chunk)
    with path.open("r+b") as stream:
        stream.write(_TEXT_HDF5.ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))
