"""Bounded, zero-copy scan of binary protobuf messages, and the few encoders that writers need.

Source: the protobuf wire format. What differs from a protobuf parser: nothing is copied (a run of
packed floats is a view of the memory map), unknown fields are stepped over unread, groups are
refused, and the number of fields in a file is limited, so a hostile file costs bounded time.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.file_kinds import HEAD_BYTES, FileKind, file_kind, is_binary
from sphereface.files import open_regular

__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "MAX_FIELDS",
    "VARINT",
    "Buffer",
    "Field",
    "WireReader",
    "encode_key",
    "encode_varint",
    "map_file",
    "release_pages",
]

VARINT, FIXED64, LENGTH, GROUP_START, GROUP_END, FIXED32 = range(6)
_KIND_NAMES = {
    VARINT: "varint",
    FIXED64: "64-bit value",
    LENGTH: "length-delimited value",
    FIXED32: "32-bit value",
}
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_GROUPS = (GROUP_START, GROUP_END)

MAX_FIELDS = 1 << 18
"""Most fields read of one file, the bound of its time; a net of 1000 layers has some 30,000."""

_VARINT_BYTES = 10
_MAX_KEY = (1 << 32) - 1

Buffer = bytes | bytearray | memoryview | mmap.mmap


class Field(NamedTuple):
    """One field of a message, or a run of equal-sized ones that share a one-byte key."""

    number: int
    kind: int
    start: int  # offset of the key
    begin: int  # offset of the payload (of the first one's, in a run)
    end: int
    value: int  # the number itself for a varint, else 0
    values: int  # how many; > 1 only for 32- and 64-bit values


class WireReader:
    """Reads fields of a message held in a buffer; every offset is one of the whole buffer.

    Parameters
    ----------
    buffer : bytes-like
        The file, usually memory mapped. Arrays made from it keep it alive.
    source : str
        Name of the file in error messages.
    what : str
        What the file should be, ``"caffemodel"``, for errors.
    """

    def __init__(self, buffer: Buffer, source: str, what: str = "binary file of Caffe") -> None:
        self.buffer = buffer
        self.source = source
        self.what = what
        self.size = len(buffer)
        self.layer: str | None = None  # set by the caller; named in error messages
        self._fields_left = MAX_FIELDS

    def error(
        self, offset: int, problem: str, *, expected: str = "", fix: str = ""
    ) -> SphereFaceError:
        """Return the error that names the file, the byte and the layer being read.

        Of a file of another kind, the error that says which.
        """
        head = bytes(self.buffer[:HEAD_BYTES])
        kind = file_kind(head)
        if len(head) > 16 and not is_binary(head):
            kind = kind or FileKind("a text file")
        if kind and kind.what != f"a {self.what}":
            return SphereFaceError(
                kind.what, where=self.source, expected=f"a {self.what}", fix=kind.fix
            )
        where = f"{self.source}: byte {offset}"
        if self.layer is not None:
            where += f': layer "{self.layer[:80]}"'
        return SphereFaceError(problem, where=where, expected=expected, fix=fix)

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message in bytes `begin` to `end`.

        Raises
        ------
        SphereFaceError
            A value does not fit in the message, or its wire type is a group or undefined.
        """
        position = begin
        while position < end:
            field = self._field(position, end)
            yield field
            position = field.end

    def expect(self, field: Field, name: str, *kinds: int) -> None:
        """Raise unless the wire type of `field` is one of `kinds`."""
        if field.kind not in kinds:
            raise self.error(
                field.start,
                f"field {field.number} ({name}) is a {_KIND_NAMES[field.kind]}",
                expected=" or ".join(_KIND_NAMES[kind] for kind in kinds),
            )

    def text(self, field: Field, name: str) -> str:
        """Return a string field; bytes that are not UTF-8 (old Windows files) are escaped."""
        self.expect(field, name, LENGTH)
        return bytes(self.buffer[field.begin : field.end]).decode("utf-8", "backslashreplace")

    def signed(self, field: Field, name: str) -> int:
        """Return a varint field as the signed 64-bit number that int32 and int64 are stored as."""
        self.expect(field, name, VARINT)
        return _signed(field.value)

    def packed_signed(self, field: Field, name: str) -> Iterator[int]:
        """Yield the numbers of a repeated int64 field, packed or not."""
        self.expect(field, name, VARINT, LENGTH)
        if field.kind == VARINT:
            yield _signed(field.value)
            return
        position = field.begin
        while position < field.end:
            value, position = self._varint(position, field.end)
            yield _signed(value)

    def numbers(self, field: Field, name: str, dtype: str) -> np.ndarray:
        """Return a repeated float ("<f4") or double ("<f8") field as a flat array.

        Packed values are a read-only view of the buffer; a run of unpacked ones, whose keys lie
        between them, is gathered in one strided copy.
        """
        item = np.dtype(dtype).itemsize
        self.expect(field, name, LENGTH, FIXED32 if item == 4 else FIXED64)
        if field.kind == LENGTH:
            return self.view(field, name, dtype)
        strides = (item + field.begin - field.start,)
        run = np.ndarray((field.values,), dtype, self.buffer, field.begin, strides)
        return run.copy()

    def view(self, field: Field, name: str, dtype: str) -> np.ndarray:
        """Return the payload of a length-delimited field as a flat view of the buffer."""
        self.expect(field, name, LENGTH)
        count, rest = divmod(field.end - field.begin, np.dtype(dtype).itemsize)
        if rest:
            raise self.error(
                field.start,
                f"field {field.number} ({name}) holds {field.end - field.begin} bytes",
                expected=f"a multiple of {np.dtype(dtype).itemsize}",
            )
        return (
            np.frombuffer(self.buffer, dtype, count, field.begin) if count else np.empty(0, dtype)
        )

    def _field(self, start: int, end: int) -> Field:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise self.error(start, f"more than {MAX_FIELDS} fields", expected="a model's file")
        key, begin = self._varint(start, end)
        number, kind = key >> 3, key & 7
        if number == 0 or key > _MAX_KEY or kind > FIXED32 or kind in _GROUPS:
            raise self.error(
                start,
                f"field number {number} with wire type {kind}",
                expected="a field of a binary protobuf message",
                fix="the file is damaged, or is not one of Caffe's binary files",
            )
        if kind == VARINT:
            value, after = self._varint(begin, end)
            return Field(number, kind, start, begin, after, value, 1)
        if kind == LENGTH:
            length, begin = self._varint(begin, end)
        else:
            length = _WIDTHS[kind]
        if length > end - begin:
            raise self.error(
                start,
                f"field {number} needs {length} bytes, {end - begin} are left",
                expected="a whole file" if end == self.size else "it to end within its message",
                fix="the file is truncated or damaged",
            )
        after, count = begin + length, 1
        if kind != LENGTH and begin - start == 1:
            count = self._run_length(start, end, 1 + length)
            after = start + count * (1 + length)
        return Field(number, kind, start, begin, after, 0, count)

    def _run_length(self, start: int, end: int, stride: int) -> int:
        """Count the fields from `start` on that have the same one-byte key."""
        key, whole = self.buffer[start], (end - start) // stride
        if whole < 2 or self.buffer[start + stride] != key:
            return 1
        keys = np.ndarray((whole,), np.uint8, self.buffer, start, (stride,))
        count, window = 1, 64
        while count < whole:
            other = np.flatnonzero(keys[count : count + window] != key)
            if other.size:
                return count + int(other[0])
            count, window = count + window, window * 2
        return whole

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value, buffer = 0, self.buffer
        for index in range(min(_VARINT_BYTES, end - position)):
            byte = buffer[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position + index + 1
        raise self.error(
            position,
            "a number runs on past the end of its message"
            if end - position < _VARINT_BYTES
            else f"a number is longer than {_VARINT_BYTES} bytes",
            expected="a varint",
            fix="the file is truncated or damaged",
        )


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def map_file(path: str | os.PathLike[str], what: str) -> WireReader:
    """Memory map a file read-only and return a reader of it.

    Arrays that the reader makes hold the map open; replacing the file by a rename (as every
    writer of this package does) leaves them intact, truncating it in place does not. `what` the
    file should be is told in errors.

    Raises
    ------
    SphereFaceError
        There is no such file, or it is empty or not a regular file.
    """
    source = os.fspath(path)
    with open_regular(path, what) as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise SphereFaceError("an empty file", where=source, expected=f"a {what}")
        try:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return WireReader(content, source, what)
        except OSError as error:
            raise SphereFaceError(error.strerror or str(error), where=source) from error


def release_pages(array: np.ndarray) -> None:
    """Give the memory of a mapped array's pages back to the system once it has been copied.

    A hint only: the array stays valid and is read from the file again when used. Does nothing for
    an array that does not lie contiguously on a map of :func:`map_file`.
    """
    base = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not (isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")):
        return
    if not array.size or not array.flags.c_contiguous:
        return
    begin = array.__array_interface__["data"][0]
    begin -= np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    page = begin // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, page, begin + array.nbytes - page)


def encode_varint(value: int) -> bytes:
    """Return a non-negative number (or a negative int32/int64) as a varint."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_key(number: int, kind: int) -> bytes:
    """Return the key that precedes a field's payload."""
    return encode_varint(number << 3 | kind)
