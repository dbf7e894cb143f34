"""``caffe.io``: images in and out of nets, and arrays in and out of Caffe's messages.

Source: python/caffe/io.py. What differs: images are decoded by OpenCV, to the values that
scikit-image gave.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.images import decode_image, read_image
from sphereface.pycaffe.image_resize import resize_image
from sphereface.pycaffe.proto import caffe_pb2
from sphereface.pycaffe.transformer import Transformer

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize_image",
]

_LUMINANCE = (0.2125, 0.7154, 0.0721)  # of scikit-image's rgb2gray


def load_image(
    filename: str | os.PathLike[str] | BinaryIO, color: bool = True
) -> NDArray[np.float32]:
    """Read an image file.

    Parameters
    ----------
    filename : path or binary file object
        JPEG, PNG, BMP, ... of 8 or 16 bits.
    color : bool
        False for the luminance.

    Returns
    -------
    ndarray of shape (H, W, 3) or (H, W, 1)
        RGB (or luminance) in [0, 1]. A grey image with `color` has three equal channels;
        transparency is dropped and EXIF rotation ignored, as in pycaffe.
    """
    if isinstance(filename, (str, os.PathLike)):
        image = read_image(filename, color="unchanged", exif=False)
    else:
        name, data = str(getattr(filename, "name", "file object")), filename.read()
        if isinstance(data, str):
            raise SphereFaceError(
                "text", where=name, expected="bytes", fix='open it with mode "rb"'
            )
        image = decode_image(data, color="unchanged", exif=False, where=name)
    image = image.astype(np.float64) / np.iinfo(image.dtype).max
    if image.shape[2] >= 3:
        image = image[:, :, 2::-1]  # BGR or BGRA to RGB
        if not color:
            image = (image @ np.array(_LUMINANCE))[:, :, np.newaxis]
    elif color:
        image = np.tile(image[:, :, :1], (1, 1, 3))
    return np.ascontiguousarray(image, np.float32)


def oversample(
    images: Iterable[NDArray[Any]], crop_dims: Sequence[int] | NDArray[Any]
) -> NDArray[np.float32]:
    """Cut ten crops of each image: four corners, the centre, and these five mirrored.

    Parameters
    ----------
    images : iterable of ndarray of shape (H, W, K)
        Images of one size.
    crop_dims : sequence of int
        (height, width) of a crop.

    Returns
    -------
    ndarray of shape (10 N, height, width, K)
    """
    images = list(images)
    height, width = (int(size) for size in crop_dims)
    down, right = images[0].shape[0] - height, images[0].shape[1] - width
    if down < 0 or right < 0:
        raise SphereFaceError(
            f"crops of {(height, width)} of images of {images[0].shape[:2]}",
            where="oversample",
            expected="crops that fit",
        )
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = np.empty((10 * len(images), height, width, images[0].shape[2]), np.float32)
    for index, image in enumerate(images):
        five = crops[10 * index : 10 * index + 5]
        for crop, (top, left) in zip(five, corners, strict=True):
            crop[...] = image[top : top + height, left : left + width]
        crops[10 * index + 5 : 10 * index + 10] = five[:, :, ::-1]
    return crops


def array_to_datum(arr: NDArray[Any], label: int | None = None) -> Any:
    """Return a Datum of a (C, H, W) array: bytes for uint8, floats for any other type."""
    if arr.ndim != 3:
        raise SphereFaceError(
            f"Incorrect array shape: {arr.shape}", where="array_to_datum", expected="(C, H, W)"
        )
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Any) -> NDArray[Any]:
    """Return the (C, H, W) array of a Datum, which must not be an encoded image."""
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        return np.frombuffer(datum.data, np.uint8).reshape(shape)
    return np.array(datum.float_data, float).reshape(shape)


def array_to_blobproto(arr: NDArray[Any], diff: NDArray[Any] | None = None) -> Any:
    """Return a BlobProto of an array and, optionally, its diff."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel())
    return blob


def blobproto_to_array(blob: Any, return_diff: bool = False) -> NDArray[Any]:
    """Return the array of a BlobProto (or its diff), in its shape or old num, ..., width."""
    values = (blob.double_diff or blob.diff) if return_diff else (blob.double_data or blob.data)
    old = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in old):
        shape = tuple(getattr(blob, name) for name in old)
    else:
        shape = tuple(blob.shape.dim)
    return np.array(values, float).reshape(shape)


def arraylist_to_blobprotovector_str(arraylist: Iterable[NDArray[Any]]) -> bytes:
    """Return arrays as a serialised BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend(array_to_blobproto(arr) for arr in arraylist)
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(text: bytes) -> list[NDArray[Any]]:
    """Return the arrays of a serialised BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.ParseFromString(text)
    return [blobproto_to_array(blob) for blob in vector.blobs]
