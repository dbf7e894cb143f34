"""Caffe's blob: an array with its diff, the rules for its shape, and BlobProto's bytes.

Source: Blob::FromProto, ToProto and ShapeEquals. What differs: data keep the type they are stored
in (float64 for double_data, float16 for NVIDIA's raw_data) and are views of the file, and the
stored count is compared with the shape before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.proto.wire import (
    LENGTH,
    VARINT,
    Buffer,
    Field,
    WireReader,
    encode_key,
    encode_varint,
    release_pages,
)

__all__ = [
    "MAX_AXES",
    "MAX_COUNT",
    "Blob",
    "StreamedArray",
    "check_shape",
    "copy_blob",
    "encode_blob",
    "read_blob",
    "shape_equals",
    "total_bytes",
    "write_pieces",
]

MAX_AXES = 32
MAX_COUNT = 2**31 - 1

# BlobProto's field numbers; 10 to 13 are NVIDIA's fork's.
_LEGACY = {1: "num", 2: "channels", 3: "height", 4: "width"}
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9
_RAW_DATA_TYPE, _RAW_DIFF_TYPE, _RAW_DATA, _RAW_DIFF = 10, 11, 12, 13
_SHAPE_DIM = 1
_REPEATED = {
    _DATA: ("data", "<f4"),
    _DIFF: ("diff", "<f4"),
    _DOUBLE_DATA: ("double_data", "<f8"),
    _DOUBLE_DIFF: ("double_diff", "<f8"),
}
_RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2"}  # DOUBLE, FLOAT, FLOAT16
_INT32_MAX = 2**31 - 1

_COPY_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Blob:
    """One parameter of a layer, as stored.

    Parameters
    ----------
    data : ndarray
        Values, with the blob's shape; read-only where it is a view of a file.
    diff : ndarray, optional
        Gradients (``snapshot_diff: true``).
    legacy : bool
        The shape is stored as num, channels, height, width.
    """

    data: np.ndarray
    diff: np.ndarray | None = None
    legacy: bool = False


@dataclass(frozen=True)
class StreamedArray:
    """A float32 array that is too large to hold, for a writer: made in pieces while it is written.

    Parameters
    ----------
    shape : tuple of int
        Of the whole.
    pieces : callable
        Returns an iterator over C-contiguous float32 arrays, the values in their order.
    """

    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """The size of the whole."""
        return 4 * math.prod(self.shape)


def check_shape(shape: Iterable[int]) -> str:
    """Return what Caffe's Blob::Reshape would refuse in `shape`, or an empty string."""
    axes = tuple(shape)
    if len(axes) > MAX_AXES:
        return f"a shape of {len(axes)} axes, more than {MAX_AXES}"
    if any(axis < 0 for axis in axes):
        return f"a negative dimension in shape {axes}"
    if math.prod(axes) > MAX_COUNT or any(axis > MAX_COUNT for axis in axes):
        return f"shape {axes} of more than {MAX_COUNT} values"
    return ""


def shape_equals(source: Sequence[int], target: Sequence[int]) -> bool:
    """Tell whether a stored shape fits a blob, as Caffe's ShapeEquals does.

    A 4-D `source` also fits the target that becomes it by leading ones, because that is how files
    of the time of num, channels, height, width hold a bias (1, 1, 1, N) or a matrix (1, 1, N, K).

    Examples
    --------
    >>> shape_equals((1, 1, 1, 64), (64,)), shape_equals((1, 64), (64,))
    (True, False)
    """
    target = tuple(target)
    padded = (1,) * (4 - len(target)) + target if len(source) == 4 else target
    return tuple(source) == padded


def copy_blob(source: np.ndarray, out: np.ndarray) -> None:
    """Copy `source` into the C-contiguous `out` of equal size, holding little of the file.

    Works in pieces and gives back the pages of a mapped source as it goes, so that filling a net
    holds its parameters and a few megabytes, not parameters and file. Types are cast.
    """
    if source.size != out.size or not out.flags.c_contiguous:
        raise SphereFaceError(
            f"cannot copy shape {source.shape} into shape {out.shape}",
            expected="equal sizes and a C-contiguous destination",
        )
    flat, into = source.reshape(-1), out.reshape(-1)
    for begin in range(0, flat.size, _COPY_ELEMENTS):
        piece = flat[begin : begin + _COPY_ELEMENTS]
        np.copyto(into[begin : begin + _COPY_ELEMENTS], piece, casting="same_kind")
        release_pages(piece)


@dataclass
class _Parts:
    """The fields of one BlobProto as they are met."""

    legacy: dict[int, int]
    dims: list[int]
    chunks: dict[int, list[np.ndarray]]
    raw_types: dict[int, int]
    raw: dict[int, Field]


def read_blob(reader: WireReader, begin: int, end: int) -> Blob:
    """Read the BlobProto in bytes `begin` to `end`.

    Raises
    ------
    SphereFaceError
        Fields of wrong types, a shape that Caffe refuses, or data of another count than its shape.
    """
    parts = _scan(reader, begin, end)
    shape = tuple(parts.legacy.get(number, 0) for number in _LEGACY) if parts.legacy else None
    dims = tuple(parts.dims) if shape is None else shape
    problem = check_shape(dims)
    if problem:
        raise reader.error(begin, problem, expected="a shape that a Caffe blob can have")
    data = _values(reader, parts, (_DOUBLE_DATA, _DATA), _RAW_DATA_TYPE, _RAW_DATA)
    diff = _values(reader, parts, (_DOUBLE_DIFF, _DIFF), _RAW_DIFF_TYPE, _RAW_DIFF)
    for name, values in (("values", data), ("diffs", diff)):
        if values.size != math.prod(dims) and (name == "values" or values.size):
            raise reader.error(
                begin,
                f"a blob of shape {dims} holds {values.size} {name}",
                expected=f"{math.prod(dims)}",
            )
    return Blob(
        data.reshape(dims), diff.reshape(dims) if diff.size else None, legacy=shape is not None
    )


def _scan(reader: WireReader, begin: int, end: int) -> _Parts:
    parts = _Parts({}, [], {number: [] for number in _REPEATED}, {}, {})
    for field in reader.fields(begin, end):
        number = field.number
        if number in _REPEATED:
            parts.chunks[number].append(reader.numbers(field, *_REPEATED[number]))
        elif number == _SHAPE:
            reader.expect(field, "shape", LENGTH)
            _scan_shape(reader, field, parts.dims)
        elif number in _LEGACY:
            size = reader.signed(field, _LEGACY[number])
            if size > _INT32_MAX:
                raise reader.error(field.start, f"{_LEGACY[number]} is {size}", expected="an int32")
            parts.legacy[number] = size
        elif number in (_RAW_DATA_TYPE, _RAW_DIFF_TYPE):
            parts.raw_types[number] = reader.signed(field, "raw type")
        elif number in (_RAW_DATA, _RAW_DIFF):
            reader.expect(field, "raw values", LENGTH)
            parts.raw[number] = field
    return parts


def _scan_shape(reader: WireReader, shape: Field, dims: list[int]) -> None:
    for field in reader.fields(shape.begin, shape.end):
        if field.number != _SHAPE_DIM:
            continue
        for dim in reader.packed_signed(field, "dim"):
            dims.append(dim)
            if len(dims) > MAX_AXES:
                raise reader.error(
                    field.start, f"a shape of more than {MAX_AXES} axes", expected="fewer"
                )


def _values(
    reader: WireReader, parts: _Parts, numbers: tuple[int, int], type_number: int, raw_number: int
) -> np.ndarray:
    """Return the flat values: doubles if there are any, else floats, else raw bytes."""
    for number in numbers:
        chunks = [chunk for chunk in parts.chunks[number] if chunk.size]
        if chunks:
            return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    field = parts.raw.get(raw_number)
    if field is None:
        return np.empty(0, "<f4")
    kind = parts.raw_types.get(type_number, 0)
    if kind not in _RAW_TYPES:
        raise reader.error(
            field.start, f"raw values of type {kind}", expected="0 (double), 1 (float) or 2 (half)"
        )
    return reader.view(field, "raw values", _RAW_TYPES[kind])


def encode_blob(
    blob: Blob | np.ndarray | StreamedArray, where: str = ""
) -> list[Buffer | StreamedArray]:
    """Return the bytes of a BlobProto in pieces, as Caffe's ToProto would write them.

    float32 is stored as data, float64 as double_data, and float16 as data, since BVLC's Caffe
    has no halves. The pieces of a C-contiguous array are the array's own memory; a StreamedArray
    is a piece itself.
    """
    if isinstance(blob, StreamedArray):
        problem = check_shape(blob.shape)
        if problem:
            raise SphereFaceError(
                problem, where=where, expected="an array that a Caffe blob can hold"
            )
        key = encode_key(_DATA, LENGTH) + encode_varint(blob.nbytes)
        return [key, blob, _shape_field(blob.shape)]
    if not isinstance(blob, Blob):
        blob = Blob(blob)
    shape = blob.data.shape
    problem = check_shape(shape)
    if blob.data.dtype.kind != "f" or blob.data.dtype.itemsize > 8:
        problem = f"an array of {blob.data.dtype}"
    elif blob.diff is not None and blob.diff.shape != shape:
        problem = f"a diff of shape {blob.diff.shape} for data of shape {shape}"
    elif blob.legacy and len(shape) > 4:
        problem = f"shape {shape} for num, channels, height, width"
    if problem:
        raise SphereFaceError(problem, where=where, expected="an array that a Caffe blob can hold")
    double = blob.data.dtype.itemsize == 8
    values: list[Buffer | StreamedArray] = [
        *_encode_numbers(_DOUBLE_DATA if double else _DATA, blob.data, double),
        *_encode_numbers(_DOUBLE_DIFF if double else _DIFF, blob.diff, double),
    ]
    if blob.legacy:
        four = (1,) * (4 - len(shape)) + shape
        dims = b"".join(
            encode_key(number, VARINT) + encode_varint(size)
            for number, size in zip(_LEGACY, four, strict=True)
        )
        return [dims, *values]
    field = _shape_field(shape)
    return [field, *values] if double else [*values, field]


def _shape_field(shape: tuple[int, ...]) -> bytes:
    packed = b"".join(map(encode_varint, shape))
    inner = encode_key(_SHAPE_DIM, LENGTH) + encode_varint(len(packed)) + packed if shape else b""
    return encode_key(_SHAPE, LENGTH) + encode_varint(len(inner)) + inner


def _encode_numbers(number: int, array: np.ndarray | None, double: bool) -> Iterator[Buffer]:
    if array is None or not array.size:
        return
    flat = np.ascontiguousarray(array, "<f8" if double else "<f4").reshape(-1)
    yield encode_key(number, LENGTH) + encode_varint(flat.nbytes)
    yield flat.data


def total_bytes(pieces: Iterable[Buffer | StreamedArray]) -> int:
    """Return the length in bytes of encoded pieces."""
    return sum(_length(piece) for piece in pieces)


def write_pieces(stream: BinaryIO, pieces: Iterable[Buffer | StreamedArray]) -> None:
    """Write encoded pieces.

    Raises
    ------
    SphereFaceError
        A StreamedArray has other values than its shape tells.
    """
    for piece in pieces:
        if not isinstance(piece, StreamedArray):
            stream.write(piece)
            continue
        written = 0
        for values in piece.pieces():
            written += stream.write(values.reshape(-1).data.cast("B"))
        if written != piece.nbytes:
            raise SphereFaceError(f"{written} bytes of values", expected=f"{piece.nbytes}")


def _length(piece: Buffer | StreamedArray) -> int:
    return piece.nbytes if isinstance(piece, StreamedArray) else memoryview(piece).nbytes
