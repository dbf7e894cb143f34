"""Image files to arrays and back, and every way in which they can be bad. OpenCV lives here.

Source: ReadImageToCVMat and DecodeDatumToCVMat of Caffe's util/io.cpp. What differs: a JPEG that
was cut off is an error, where OpenCV fills the rest with grey and says nothing; a damage inside the
compressed data cannot be noticed.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["decode_image", "encode_image", "read_bytes", "read_image", "resize_image"]

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"


@cache
def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise SphereFaceError(
            "reading and writing images needs OpenCV", fix="pip install sphereface[data]"
        ) from error
    return cv2


def read_bytes(path: str) -> bytes:
    """Return the content of an image file.

    Raises
    ------
    SphereFaceError
        It is missing, empty or unreadable.
    """
    try:
        with io.FileIO(path) as file:
            data = file.read()
    except FileNotFoundError:
        raise SphereFaceError(f'no such image file "{path}"') from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise SphereFaceError(f'image file "{path}" cannot be read ({reason})') from None
    if not data:
        raise SphereFaceError(f'image file "{path}" is empty')
    return data


def decode_image(data: Any, color: bool | None, what: str = "image") -> NDArray[np.uint8]:
    """Decode a compressed image.

    Parameters
    ----------
    data : bytes-like
        JPEG, PNG or whatever OpenCV knows.
    color : bool or None
        True for three channels (BGR), False for one, None for what the file has.
    what : str
        What to call the image in errors.

    Returns
    -------
    ndarray of shape (H, W, C)

    Raises
    ------
    SphereFaceError
        It is no image or is cut off; or has more than 8 bits, which only None lets through.
    """
    if data[:3] == _JPEG:
        # Marker bytes do not occur in a scan, so the file is whole if an end follows the last one.
        whole = bytes(data)
        if whole.rfind(_JPEG_END) < whole.rfind(_JPEG_SCAN):
            raise SphereFaceError(f"{what} is truncated: a JPEG without its end")
    cv2 = _cv2()
    flag = {
        True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE, None: cv2.IMREAD_UNCHANGED
    }[color]  # fmt: skip
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        image = None
    if image is None:
        raise SphereFaceError(f"{what} is corrupt or no image: OpenCV cannot decode it")
    if image.dtype != np.uint8:
        raise SphereFaceError(
            f"{what} has values of {image.dtype}",
            expected="8 bits a channel",
            fix="set force_color or force_gray, which convert it",
        )
    result: NDArray[np.uint8] = image if image.ndim == 3 else image[:, :, None]
    return result


def read_image(path: str, color: bool) -> NDArray[np.uint8]:
    """Return the image of a file as (H, W, 3) BGR, or (H, W, 1) without `color`."""
    return decode_image(read_bytes(path), color, f'image file "{path}"')


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the image in another size, as Caffe does it (bilinear, without a low-pass filter)."""
    if image.shape[:2] == (height, width):
        return image
    resized: NDArray[np.uint8] = _cv2().resize(image, (width, height))
    return resized if resized.ndim == 3 else resized[:, :, None]


def encode_image(image: NDArray[np.uint8], kind: str) -> bytes:
    """Compress an image as OpenCV does by default.

    Parameters
    ----------
    image : ndarray of shape (H, W, C)
        BGR.
    kind : str
        ``"jpg"``, ``"png"`` or another suffix that OpenCV knows.
    """
    cv2 = _cv2()
    try:
        done, data = cv2.imencode(f".{kind}", image)
    except cv2.error:
        done = False
    if not done:
        raise SphereFaceError(
            f'OpenCV cannot encode as "{kind}"',
            where="encode_type",
            expected="jpg, png or the like",
        )
    return bytes(data)
