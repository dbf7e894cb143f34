"""MAT files of version 5, checked before scipy reads them.

Source: MathWorks, "MAT-File Format", Level 5. scipy's reader is compiled and trusts sizes and
types: a damaged byte makes it read, or write, memory that is not its own and ends the process. Here
every element is first walked: it lies inside the one that holds it, and its data have the type and
number that its class and dimensions ask for.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from typing import Any, NamedTuple

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import read_bytes

__all__ = ["read_mat"]

_HEADER, _LARGEST = 128, 1 << 32
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_CHARACTERS = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
_CELL, _STRUCT, _OBJECT, _CHAR = 1, 2, 3, 4
_NUMBERS = range(6, 16)
_COMPLEX = 0x800
_DEEPEST, _MOST_DIMENSIONS = 16, 32


class _Element(NamedTuple):
    kind: int
    data: memoryview


class _DamagedError(Exception):
    pass


def read_mat(path: str | os.PathLike[str], extra: str, *, squeeze: bool = False) -> dict[str, Any]:
    """Return the variables of a MAT file.

    Parameters
    ----------
    path : path
    extra : str
        The package's extra that brings scipy, for the error without it.
    squeeze : bool
        Drop dimensions of one, as scipy's ``squeeze_me``.

    Raises
    ------
    SphereFaceError
        It is damaged, or no MAT file of version 5.
    """
    scipy_io = require("scipy.io", extra)
    data = read_bytes(path, limit=_LARGEST, what=".mat")
    try:
        _check(memoryview(data))
        content: dict[str, Any] = scipy_io.loadmat(io.BytesIO(data), squeeze_me=squeeze)
    except Exception as error:  # what scipy raises on what it does not know is not documented
        raise SphereFaceError(
            f"no readable .mat ({error})", where=os.fspath(path), expected="a MAT file of version 5"
        ) from None
    return content


def _check(data: memoryview) -> None:
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[_HEADER - 2 : _HEADER]))
    if order is None:
        raise _DamagedError("no header of version 5")
    rest = data[_HEADER:]
    while rest:
        element, rest = _next(rest, order, padded=False)
        if element.kind == _COMPRESSED:
            unpacked = memoryview(_inflated(element.data))
            element, more = _next(unpacked, order)
            if more:
                raise _DamagedError("more than one variable in a compressed element")
        if element.kind != _MATRIX:
            raise _DamagedError(f"an element of type {element.kind} where a variable is meant")
        _matrix(element.data, order, 0)


def _inflated(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(data, _LARGEST)
    if not stream.eof:
        raise _DamagedError("a compressed element without its end")
    return unpacked


def _next(data: memoryview, order: str, *, padded: bool = True) -> tuple[_Element, memoryview]:
    """Return the first element, and what follows it and its padding."""
    kind, size = struct.unpack_from(f"{order}II", data)
    if kind >> 16:  # the small form: both in four bytes
        kind, size, begin, length = kind & 0xFFFF, kind >> 16, 4, 8
        if size > 4:
            raise _DamagedError(f"a small element of {size} bytes")
    else:
        begin = 8
        length = 8 + size + (-size % 8 if padded and kind != _COMPRESSED else 0)
    if begin + size > len(data):
        raise _DamagedError(f"an element of {size} bytes where {len(data)} are left")
    return _Element(kind, data[begin : begin + size]), data[min(length, len(data)) :]


def _matrix(data: memoryview, order: str, depth: int) -> None:
    if not data:  # an empty cell
        return
    if depth > _DEEPEST:
        raise _DamagedError(f"variables nested more than {_DEEPEST} deep")
    flags, rest = _next(data, order)
    _need(flags, _UINT32, 8)
    word = struct.unpack_from(f"{order}I", flags.data)[0]
    shape, rest = _next(rest, order)
    _need(shape, _INT32)
    dimensions = struct.unpack(f"{order}{len(shape.data) // 4}i", shape.data)
    if not 2 <= len(dimensions) <= _MOST_DIMENSIONS or min(dimensions) < 0:
        raise _DamagedError(f"dimensions {dimensions[:8]}")
    count = math.prod(dimensions)
    name, rest = _next(rest, order)
    _need(name, _INT8)
    kind = word & 0xFF
    if kind in (_CELL, _STRUCT, _OBJECT):
        if kind == _OBJECT:
            name, rest = _next(rest, order)
            _need(name, _INT8)
        parts = count
        if kind != _CELL:
            fields, rest = _fields(rest, order)
            parts *= fields
        if parts * 8 > len(rest):
            raise _DamagedError(f"{parts} values in {len(rest)} bytes")
        for _ in range(parts):
            part, rest = _next(rest, order)
            if part.kind != _MATRIX:
                raise _DamagedError(f"an element of type {part.kind} in a cell or struct")
            _matrix(part.data, order, depth + 1)
    elif kind == _CHAR or kind in _NUMBERS:
        sizes = _CHARACTERS if kind == _CHAR else _SIZES
        for _ in range(2 if word & _COMPLEX else 1):
            values, rest = _next(rest, order)
            size = sizes.get(values.kind)
            right = size and (
                # Of UTF-8 and UTF-16, several units may make one character.
                len(values.data) % size == 0 and len(values.data) // size >= count
                if kind == _CHAR
                else len(values.data) == count * size
            )
            if not right:
                raise _DamagedError(
                    f"{len(values.data)} bytes of type {values.kind} for {count} values"
                )
    else:
        raise _DamagedError(f"an array of class {kind}, which is not read")


def _fields(rest: memoryview, order: str) -> tuple[int, memoryview]:
    """Return the number of fields of a struct, and what follows their names."""
    length, rest = _next(rest, order)
    _need(length, _INT32, 4)
    size = struct.unpack(f"{order}i", length.data)[0]
    names, rest = _next(rest, order)
    _need(names, _INT8)
    if size < 1 or len(names.data) % size:
        raise _DamagedError(f"names of {size} bytes in {len(names.data)}")
    return len(names.data) // size, rest


def _need(element: _Element, kind: int, size: int | None = None) -> None:
    if element.kind != kind or (size is not None and len(element.data) != size):
        raise _DamagedError(
            f"an element of type {element.kind} and {len(element.data)} bytes; expected type {kind}"
        )
