"""The pages of an LMDB file, read one by one and checked.

Source: the layout of LMDB 0.9's data file, version 1 (lmdb's mdb.c: MDB_meta, MDB_page, MDB_node).
LMDB's own library maps the file into memory, so a page that is damaged, or gone because the file
was cut, kills the process; here it is an error. Nothing is locked: programs that hold the file
open, through lmdb or otherwise, are not disturbed. The library writes (`record_writer`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from sphereface.errors import SphereFaceError
from sphereface.file_kinds import HEAD_BYTES, file_kind
from sphereface.files import open_regular

__all__ = ["Page", "PageFile", "Value"]

_HEADER = struct.Struct("<QHHHH")  # page number, pad, flags, lower, upper
_OVERFLOW_HEADER = struct.Struct("<QHHI")  # page number, pad, flags, number of pages
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_DATABASE = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, pages of 3 kinds, entries, root
_META_END = struct.Struct("<QQ")  # last page, transaction
_NODE = struct.Struct("<HHHH")  # 48 bits of a page, or 32 of a size and flags; size of the key
_PAGE_NUMBER = struct.Struct("<Q")

_BRANCH, _LEAF, _BIG, _META_PAGE = 1, 2, 4, 8  # flags of a page
_IN_OVERFLOW, _PLAIN = 1, 0  # flags of a node
_MAGIC, _VERSION, _EMPTY = 0xBEEFC0DE, 1, 2**64 - 1
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536, 2048, 1024, 512)
_DEEPEST = 32


class Value(NamedTuple):
    """Where a value lies.

    Attributes
    ----------
    offset, size : int
        In the file, in bytes.
    pages : int
        Number of its first page if it has pages of its own, else 0.
    """

    offset: int
    size: int
    pages: int


class Page(NamedTuple):
    """A page with nodes that was checked."""

    number: int
    data: bytes
    nodes: tuple[int, ...]  # offsets
    leaf: bool


class PageFile:
    """An LMDB's data file; threads may read at the same time. Its errors do not say which file.

    Parameters
    ----------
    path : path
        Of ``data.mdb``.

    Attributes
    ----------
    entries : int
        Number of records.
    root : int
        Page at which the tree of the main database begins, where there are records.

    Raises
    ------
    SphereFaceError
        It is no LMDB, of another kind than Caffe's, or shorter than it says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open_regular(path, "LMDB")
        self._handle = self._file.fileno()
        try:
            self._read_meta()
        except SphereFaceError:
            kind = file_kind(os.pread(self._handle, HEAD_BYTES, 0))
            self.close()
            if kind and "LMDB" not in kind.what:
                raise SphereFaceError(kind.what, expected="an LMDB", fix=kind.fix) from None
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def leaves(self) -> Iterator[Page | SphereFaceError]:
        """Yield the leaves in the order of their keys, and what is wrong instead of lost pages."""
        seen: set[int] = set()
        if self.entries:
            yield from self._leaves(self.root, 1, seen)

    def leaf(self, number: int) -> Page:
        """Return a leaf.

        Raises
        ------
        SphereFaceError
            It is damaged.
        """
        return self._page(number, leaf=True)

    def record(self, page: Page, slot: int) -> tuple[bytes, Value]:
        """Return key and place of the value of a record of a leaf.

        Raises
        ------
        SphereFaceError
            It is damaged, or no record of a plain database.
        """
        at = page.nodes[slot]
        low, high, flags, key_size = _NODE.unpack_from(page.data, at)
        size, begin = low | high << 16, at + _NODE.size + key_size
        key = page.data[at + _NODE.size : begin]
        if flags == _IN_OVERFLOW:
            _need(begin + _PAGE_NUMBER.size <= self._page_size, page.number)
            first = _PAGE_NUMBER.unpack_from(page.data, begin)[0]
            _need(2 <= first <= self._last, page.number)
            offset = first * self._page_size + _HEADER.size
            return key, Value(offset, size, first)
        if flags != _PLAIN:
            raise _error(
                "a database within the LMDB, or several values of a key", "what Caffe writes"
            )
        _need(begin + size <= self._page_size, page.number)
        return key, Value(page.number * self._page_size + begin, size, 0)

    def read(self, value: Value) -> memoryview:
        """Return a value's bytes.

        Raises
        ------
        SphereFaceError
            Its pages are damaged or gone.
        """
        if not value.pages:
            return memoryview(self._bytes(value.offset, value.size))
        header = _OVERFLOW_HEADER.size
        # Its size is read from the file: what is not there is not asked for.
        length = os.fstat(self._handle).st_size
        if value.offset + value.size > length:
            raise _error(f"{length} bytes", f"{value.offset + value.size}: it was cut")
        data = self._bytes(value.offset - header, header + value.size)
        number, _, flags, pages = _OVERFLOW_HEADER.unpack_from(data)
        _need(
            number == value.pages
            and flags & _BIG
            and pages * self._page_size >= header + value.size,
            value.pages,
        )
        return memoryview(data)[header:]

    def _leaves(self, number: int, depth: int, seen: set[int]) -> Iterator[Page | SphereFaceError]:
        try:
            if number in seen or depth > self._depth:
                raise _error(f"page {number} is damaged", "one place in the tree for a page")
            seen.add(number)
            page = self._page(number, leaf=depth == self._depth)
            if page.leaf:
                yield page
                return
            children = [self._child(page, slot) for slot in range(len(page.nodes))]
        except SphereFaceError as error:
            yield error
            return
        for child in children:
            yield from self._leaves(child, depth + 1, seen)

    @staticmethod
    def _child(page: Page, slot: int) -> int:
        low, middle, high, _ = _NODE.unpack_from(page.data, page.nodes[slot])
        child: int = low | middle << 16 | high << 32
        return child

    def _page(self, number: int, *, leaf: bool) -> Page:
        _need(2 <= number <= self._last, number)
        data = self._bytes(number * self._page_size, self._page_size)
        found, _, flags, lower, upper = _HEADER.unpack_from(data)
        _need(
            found == number
            and flags & (_LEAF | _BRANCH | _BIG | _META_PAGE) == (_LEAF if leaf else _BRANCH)
            and _HEADER.size < lower <= upper <= self._page_size
            and not lower & 1,
            number,
        )
        count = (lower - _HEADER.size) // 2
        nodes = struct.unpack_from(f"<{count}H", data, _HEADER.size)
        _need(upper <= min(nodes) and max(nodes) + _NODE.size <= self._page_size, number)
        for at in nodes:
            key_size = data[at + 6] | data[at + 7] << 8
            _need(at + _NODE.size + key_size <= self._page_size, number)
        return Page(number, data, nodes, leaf)

    def _read_meta(self) -> None:
        # A file that was cut within its first pages still says what it is in the first.
        metas = [self._meta(0, 0)]
        sizes = [metas[0][0]] if metas[0] else _PAGE_SIZES
        metas += [self._meta(1, size) for size in sizes]
        usable = [meta for meta in metas if meta]
        if not usable:
            raise _error("not a readable LMDB")
        newest = max(usable, key=lambda meta: meta[-1])
        self._page_size, flags, self._depth, self.entries, self.root, self._last, _ = newest
        length = os.fstat(self._handle).st_size
        wanted = (self._last + 1) * self._page_size
        if length < wanted:
            raise SphereFaceError(
                f"{length} bytes", expected=f"{wanted}", fix="the LMDB is truncated"
            )
        if flags:
            raise _error(f"an LMDB with flags {flags:#x}", "one as Caffe writes it, without")
        if self.entries:
            _need(1 <= self._depth <= _DEEPEST, self.root)
            self._page(self.root, leaf=self._depth == 1)

    def _meta(self, number: int, page_size: int) -> tuple[int, ...]:
        """Return page size, flags, depth, entries, root, last page and transaction; () if none."""
        size = _HEADER.size + _META.size + 2 * _DATABASE.size + _META_END.size
        data = os.pread(self._handle, size, number * page_size)
        if len(data) < size:
            return ()
        found, _, page_flags, _, _ = _HEADER.unpack_from(data)
        magic, version, _, _ = _META.unpack_from(data, _HEADER.size)
        if (magic, version, found) != (_MAGIC, _VERSION, number) or not page_flags & _META_PAGE:
            return ()
        at = _HEADER.size + _META.size
        psize = _DATABASE.unpack_from(data, at)[0]
        _, flags, depth, *_, entries, root = _DATABASE.unpack_from(data, at + _DATABASE.size)
        last, transaction = _META_END.unpack_from(data, at + 2 * _DATABASE.size)
        if psize not in _PAGE_SIZES or (page_size and psize != page_size):
            return ()
        if root == _EMPTY:
            entries = 0
        return psize, flags, depth, entries, root, last, transaction

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._handle, size, offset)
        except (OSError, ValueError) as error:  # ValueError: closed
            raise _error(f"cannot be read ({error})") from None
        if len(data) < size:
            raise _error(f"ends at byte {offset + len(data)}", f"{offset + size} at least")
        return data


def _need(holds: object, page: int) -> None:
    if not holds:
        raise _error(f"page {page} is damaged")


def _error(problem: str, expected: str = "") -> SphereFaceError:
    return SphereFaceError(problem, expected=expected)
