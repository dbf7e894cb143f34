"""Height, width and EXIF orientation of a compressed picture, without decoding it.

Source: the formats' specifications: PNG (third edition), JPEG (ITU T.81), EXIF 2.3, GIF89a, BMP,
WebP (RFC 9649), TIFF 6.0 and BigTIFF, PNM and PAM, JPEG 2000 (T.800) and AVIF. What differs: only
formats listed here are pictures for this package, because the decoder must not be asked for a
picture whose size is not known.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sphereface.images.errors import UnreadableImageError

__all__ = ["ImageHeader", "parse_header"]


class ImageHeader(NamedTuple):
    """What a picture's first bytes tell.

    Attributes
    ----------
    kind : str
        "png", "jpeg", "gif", "bmp", "webp", "tiff", "pnm", "jpeg2000" or "avif".
    height, width : int
        Pixels as they are stored, before the orientation is applied.
    orientation : int
        EXIF's 1 to 8; 1 without any.
    """

    kind: str
    height: int
    width: int
    orientation: int = 1


def parse_header(data: bytes, where: str = "") -> ImageHeader:
    """Return kind, size and orientation of a compressed picture.

    Raises
    ------
    UnreadableImageError
        The bytes are of no known format, or its header is damaged.
    """
    for kind, (signature, parse) in _FORMATS.items():
        if signature.match(data):
            try:
                height, width, orientation = parse(data)
            except (struct.error, IndexError, StopIteration):
                raise UnreadableImageError(
                    f"truncated or damaged: no size in this {kind}", where=where
                ) from None
            if height < 1 or width < 1:
                raise UnreadableImageError(f"{kind} of {height} x {width} pixels", where=where)
            return ImageHeader(kind, height, width, orientation)
    raise UnreadableImageError(
        f"no picture: it begins with {data[:12]!r}", where=where, expected=", ".join(_FORMATS)
    )


_Size = tuple[int, int, int]  # height, width, orientation


def _png(data: bytes) -> _Size:
    width, height = struct.unpack_from(">II", data, 16)
    orientation = 1
    for name, begin, size in _chunks(data, 8, ">I4s", trailer=4):
        if name == b"IDAT":
            break  # an eXIf after the pixels is rare, and this loop would be long
        if name == b"eXIf":
            orientation = _orientation(data[begin : begin + size])
    return height, width, orientation


# Stuffing and markers without parameters.
_BARE = frozenset([0x00, 0x01, 0xFF, *range(0xD0, 0xD9)])
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(data: bytes) -> _Size:
    at, orientation = 2, 1
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise StopIteration
        marker = data[at + 1]
        if marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        (size,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width, orientation
        if marker in (0xD9, 0xDA):  # the end or a scan, before any frame
            raise StopIteration
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : at + 2 + size])
        at += 2 + size


def _gif(data: bytes) -> _Size:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width, 1


def _bmp(data: bytes) -> _Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), width, 1


def _webp(data: bytes) -> _Size:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return height, width, 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 1
    if kind != b"VP8X":
        raise StopIteration
    sides = struct.unpack_from("<HBHB", data, 24)
    width, height = (low + (high << 16) + 1 for low, high in (sides[:2], sides[2:]))
    orientation = 1
    for name, begin, size in _chunks(data, 12, "<4sI", even=True):
        if name == b"EXIF":
            orientation = _orientation(data[begin : begin + size].removeprefix(b"Exif\0\0"))
    return height, width, orientation


def _tiff(data: bytes) -> _Size:
    tags = _first_directory(data)
    if not {256, 257} <= tags.keys():
        raise StopIteration
    return tags[257], tags[256], 1  # the decoder applies TIFF's own orientation


def _pnm(data: bytes) -> _Size:
    if data[:2] == b"P7":
        head = data[: data.find(b"ENDHDR") + 1]
        sides = [re.findall(rb"^%s\s+(\d{1,9})\s*$" % name, head, re.M)
                 for name in (b"HEIGHT", b"WIDTH")]  # fmt: skip
        if not all(sides):
            raise StopIteration
        height, width = (max(map(int, side)) for side in sides)
        return height, width, 1
    gap = rb"(?:\s|#[^\n]*\n)+"
    found = re.match(rb"P[1-6]" + gap + rb"(\d{1,9})" + gap + rb"(\d{1,9})\s", data)
    if not found:
        raise StopIteration
    return int(found[2]), int(found[1]), 1


def _jpeg2000(data: bytes) -> _Size:
    at = 0
    if data[:4] != b"\xff\x4f\xff\x51":
        at = next(begin for name, begin, _ in _boxes(data) if name == b"jp2c")
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return bottom - top, right - left, 1


def _avif(data: bytes) -> _Size:
    # Each image item has its size in an "ispe"; the decoder makes the largest.
    sizes = [struct.unpack_from(">II", data, found.end() + 4)
             for found in re.finditer(b"ispe", data[:1 << 20])]  # fmt: skip
    if not sizes:
        raise StopIteration
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return height, width, 1


def _chunks(
    data: bytes, at: int, form: str, *, trailer: int = 0, even: bool = False
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and size of each chunk of a PNG or RIFF."""
    while at + 8 <= len(data):
        first, second = struct.unpack_from(form, data, at)
        name, size = (second, first) if isinstance(first, int) else (first, second)
        yield name, at + 8, size
        at += 8 + size + trailer + (size % 2 if even else 0)


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and size of each outermost box of an ISO media file."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        yield name, at + head, size - head
        if size < head:  # 0: to the end of the file
            return
        at += size


def _orientation(exif: bytes) -> int:
    try:
        value = _first_directory(exif).get(274, 1)
    except (struct.error, StopIteration):
        return 1  # damaged EXIF is no reason to refuse the picture
    return value if 1 <= value <= 8 else 1


def _first_directory(data: bytes) -> dict[int, int]:
    """Return the numbers in the first directory of a TIFF, which EXIF is too, by their tags."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise StopIteration
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 43:  # BigTIFF
        count_form, entry, value_at = "Q", 20, 12
        (at,) = struct.unpack_from(order + "Q", data, 8)
    else:
        count_form, entry, value_at = "H", 12, 8
        (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + count_form, data, at)
    at += struct.calcsize(count_form)
    tags: dict[int, int] = {}
    for begin in range(at, at + min(count, 4096) * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", data, begin)
        form = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if form is not None:
            (tags[tag],) = struct.unpack_from(order + form, data, begin + value_at)
    return tags


_FORMATS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], _Size]]] = {
    "jpeg": (re.compile(rb"\xff\xd8\xff", re.S), _jpeg),
    "png": (re.compile(rb"\x89PNG\r\n\x1a\n", re.S), _png),
    "bmp": (re.compile(rb"BM", re.S), _bmp),
    "gif": (re.compile(rb"GIF8[79]a", re.S), _gif),
    "webp": (re.compile(rb"RIFF....WEBP", re.S), _webp),
    "tiff": (re.compile(rb"II[*+]\0|MM\0[*+]", re.S), _tiff),
    "pnm": (re.compile(rb"P[1-7]\s", re.S), _pnm),
    "jpeg2000": (re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", re.S), _jpeg2000),
    "avif": (re.compile(rb"....ftypavi[fs]", re.S), _avif),
}
