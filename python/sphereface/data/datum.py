"""Datum: one record of an LMDB, as an image or as bytes for one.

Source: Datum in caffe.proto; ReadImageToDatum, ReadFileToDatum, CVMatToDatum and DecodeDatum of
util/io.cpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.images import Color, decode_image
from sphereface.proto import schema

__all__ = ["datum_image", "encoded_datum", "float_datum", "raw_datum", "read_datum"]

_COLORS: dict[bool | None, Color] = {True: "bgr", False: "gray", None: "unchanged"}


def read_datum(data: Any) -> Any:
    """Parse a record.

    Raises
    ------
    SphereFaceError
        It is no Datum.
    """
    return schema.decode("Datum", data)


def datum_image(datum: Any, color: bool | None = None, *, exif: bool = True) -> NDArray[Any]:
    """Return the image of a Datum.

    Parameters
    ----------
    datum : Datum
    color : bool, optional
        For encoded ones: three channels or one; by default what the image has. Raw ones stay as
        they are, as in Caffe.
    exif : bool
        Turn encoded ones upright as EXIF tells.

    Returns
    -------
    ndarray of shape (H, W, C)
        uint8, or float32 for ``float_data``; raw images are a view of another order of axes.
    """
    if datum.encoded:
        if not datum.data:
            raise SphereFaceError("encoded Datum without data")
        return _decoded(datum.data, color, exif)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1:
        raise SphereFaceError(f"Datum of channels, height, width {shape}", expected="positive")
    values: NDArray[Any]
    if datum.data:
        values = np.frombuffer(datum.data, np.uint8)
    else:
        values = np.array(datum.float_data, np.float32)
    if values.size != np.prod(shape, dtype=np.int64):
        raise SphereFaceError(
            f"Datum of {values.size} values",
            expected=" x ".join(map(str, shape)) + ", its channels, height and width",
        )
    return values.reshape(shape).transpose(1, 2, 0)


def _decoded(data: bytes, color: bool | None, exif: bool) -> NDArray[np.uint8]:
    try:
        image = decode_image(data, color=_COLORS[color], exif=exif)
    except SphereFaceError as error:
        raise error.at("encoded Datum") from None
    if image.dtype != np.uint8:
        raise SphereFaceError(
            f"encoded Datum with values of {image.dtype}",
            expected="8 bits a channel",
            fix="set force_color or force_gray, which convert it",
        )
    return image


def raw_datum(image: NDArray[np.uint8], label: int) -> bytes:
    """Return the record of an image (H, W, C) without compression."""
    height, width, channels = image.shape
    return _record(
        channels=channels, height=height, width=width,
        data=image.transpose(2, 0, 1).tobytes(), label=label,
    )  # fmt: skip


def encoded_datum(data: bytes, label: int) -> bytes:
    """Return the record of a compressed image."""
    return _record(data=data, label=label, encoded=True)


def float_datum(values: NDArray[np.float32]) -> bytes:
    """Return the record of a blob of one sample (C, H, W), as Caffe's extract_features."""
    channels, height, width = values.shape
    return _record(channels=channels, height=height, width=width, float_data=values.ravel())


def _record(**fields: Any) -> bytes:
    return schema.encode(schema.message("Datum")(**fields))
