"""Arrays to picture files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sphereface import extras
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path

__all__ = ["encode_image", "write_image"]


def encode_image(
    image: NDArray[np.uint8],
    kind: str,
    *,
    color: Literal["bgr", "rgb"] = "bgr",
    quality: int | None = None,
) -> bytes:
    """Return a compressed picture.

    Parameters
    ----------
    image : ndarray of shape (H, W), (H, W, 1) or (H, W, 3)
        uint8.
    kind : str
        ``"jpg"``, ``"png"`` or another suffix that OpenCV knows.
    color : {"bgr", "rgb"}
        Order of the channels in `image`.
    quality : int, optional
        0 to 100, for JPEG and WebP; OpenCV's default (95) without it.

    Raises
    ------
    SphereFaceError
        An array that is no picture, or an unknown suffix.
    """
    cv2 = extras.require("cv2", "data")
    channels = image.shape[2] if image.ndim == 3 else 1
    shaped = image.ndim in (2, 3) and channels in (1, 3) and image.size
    if image.dtype != np.uint8 or not shaped:
        raise SphereFaceError(
            f"a picture of shape {image.shape} and {image.dtype}",
            expected="uint8 of shape (H, W), (H, W, 1) or (H, W, 3)",
        )
    if color == "rgb" and channels == 3:
        image = image[:, :, ::-1]
    flags = {
        "jpg": cv2.IMWRITE_JPEG_QUALITY,
        "jpeg": cv2.IMWRITE_JPEG_QUALITY,
        "webp": cv2.IMWRITE_WEBP_QUALITY,
    }
    options: list[Any] = [] if quality is None or kind not in flags else [flags[kind], quality]
    try:
        done, data = cv2.imencode(f".{kind}", np.ascontiguousarray(image), options)
    except cv2.error:
        done = False
    if not done:
        raise SphereFaceError(f'OpenCV cannot encode as "{kind}"', expected="jpg, png or the like")
    return bytes(data)


def write_image(
    path: str | os.PathLike[str],
    image: NDArray[np.uint8],
    *,
    color: Literal["bgr", "rgb"] = "bgr",
    quality: int | None = None,
) -> None:
    """Write a picture atomically, in the format of the suffix; see `encode_image`."""
    data = encode_image(image, Path(path).suffix[1:].lower(), color=color, quality=quality)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
