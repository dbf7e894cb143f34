"""Pictures to arrays, for everyone; and every way in which they can be bad.

Source: ReadImageToCVMat and DecodeDatumToCVMat of Caffe's util/io.cpp. What differs: the size is
read from the header first, so that a small file cannot ask for all memory; EXIF orientation is
applied unless told otherwise (Caffe's OpenCV ignored it until 3.1, and imread applied it from
then on); a JPEG that was cut off is an error, where OpenCV may fill the rest with grey. A damage
inside the compressed data cannot be noticed.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sphereface import extras
from sphereface.errors import SphereFaceError
from sphereface.files import read_bytes
from sphereface.images.errors import ImageTooLargeError, UnreadableImageError
from sphereface.images.header import ImageHeader, parse_header

__all__ = [
    "MAX_PIXELS",
    "Color",
    "decode_image",
    "image_header",
    "image_size",
    "read_image",
    "read_image_bytes",
]

Color: TypeAlias = Literal["bgr", "rgb", "gray", "unchanged"]

#: Pixels that a picture may have: 100 million, 300 MB as bytes of three channels.
MAX_PIXELS = 100_000_000

_MAX_BYTES = 1 << 30
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def read_image(
    path: str | os.PathLike[str],
    *,
    color: Color = "bgr",
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[Any]:
    """Return the picture of a file.

    Parameters
    ----------
    path : path
        JPEG, PNG, BMP, GIF and WebP (their first picture), TIFF, PNM, JPEG 2000 or AVIF.
    color : {"bgr", "rgb", "gray", "unchanged"}
        Three channels in this order, or one; grey, palette and CMYK become what is asked for,
        transparency is dropped, 16 bits are shifted to 8. "unchanged": the channels (grey, BGR or
        BGRA) and depth of the file.
    exif : bool
        Turn the picture upright as EXIF tells; False for the pixels as they are stored.
    max_pixels : int
        Pixels allowed, read from the header before anything is decoded.

    Returns
    -------
    ndarray of shape (H, W, C)
        uint8; with "unchanged" also uint16.

    Raises
    ------
    UnreadableImageError
        The file is missing, empty, truncated, damaged or no picture.
    ImageTooLargeError
        It has more than `max_pixels`.
    """
    return decode_image(
        read_image_bytes(path),
        color=color,
        exif=exif,
        max_pixels=max_pixels,
        where=os.fspath(path),
    )


def decode_image(
    data: Any,
    *,
    color: Color = "bgr",
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
    where: str = "",
) -> NDArray[Any]:
    """Return the picture of compressed bytes, as `read_image` does.

    `where` is their place, for errors.
    """
    data = bytes(data)
    header = parse_header(data, where)
    if header.height * header.width > max_pixels:
        raise ImageTooLargeError(
            f"{header.height} x {header.width} pixels",
            where=where,
            expected=f"at most {max_pixels:,} in all",
        )
    # Marker bytes do not occur in a scan, so a JPEG is whole if an end follows its last scan.
    if header.kind == "jpeg" and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise UnreadableImageError("truncated: a JPEG without its end", where=where)
    if header.kind == "png" and data.rfind(b"IEND") < 0:
        raise UnreadableImageError("truncated: a PNG without its end", where=where)
    image = _decode(data, color)
    if image is None:
        raise UnreadableImageError("truncated or damaged: OpenCV cannot decode it", where=where)
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImageError(
            f"values of {image.dtype}", where=where, expected="8 or 16 bits a channel"
        )
    if image.ndim == 2:
        image = image[:, :, None]
    return _upright(image, header.orientation) if exif else image


def image_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Return a picture's format, size and EXIF orientation without decoding it.

    Raises
    ------
    UnreadableImageError
        The file cannot be read or is no picture.
    """
    return parse_header(read_image_bytes(path), os.fspath(path))


def image_size(path: str | os.PathLike[str], *, exif: bool = True) -> tuple[int, int]:
    """Return the (height, width) that `read_image` would give, without decoding."""
    header = image_header(path)
    size = header.height, header.width
    return size[::-1] if exif and header.orientation > 4 else size


def read_image_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a picture's file, compressed as it is.

    Raises
    ------
    UnreadableImageError
        It is missing, empty, no regular file or larger than a picture can be.
    """
    try:
        data = read_bytes(path, limit=_MAX_BYTES, what="picture")
    except SphereFaceError as error:
        raise UnreadableImageError(
            error.problem, where=error.where, expected=error.expected, fix=error.fix
        ) from None
    if not data:
        raise UnreadableImageError("empty file", where=os.fspath(path))
    return data


@cache
def _opencv() -> tuple[Any, dict[Color, int]]:
    """Return OpenCV and its flag for each order of channels."""
    cv2 = extras.require("cv2", "data")
    three = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    flags: dict[Color, int] = {
        "bgr": three,
        "rgb": three,
        "gray": cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
        "unchanged": cv2.IMREAD_UNCHANGED,  # ignores the orientation too
    }
    return cv2, flags


def _decode(data: bytes, color: Color) -> NDArray[Any] | None:
    cv2, flags = _opencv()
    flag = flags[color]
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    if image is not None and color == "rgb":
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return image


def _upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    if orientation == 1:
        return image
    # EXIF: row 0 of the file is the picture's top, top, bottom, bottom, left, right, right, left.
    if orientation > 4:
        image = image.swapaxes(0, 1)
    rows, columns = (orientation in turned for turned in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return np.ascontiguousarray(image[:: -1 if rows else 1, :: -1 if columns else 1])
