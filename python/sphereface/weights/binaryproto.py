"""`.binaryproto`: one blob in a file, as compute_image_mean writes an image mean.

Source: BlobProto and tools/compute_image_mean. What differs: nothing but the checks.
"""

from __future__ import annotations

import os

import numpy as np

from sphereface.files import atomic_path
from sphereface.proto.wire import map_file
from sphereface.weights.blob import Blob, encode_blob, read_blob, write_pieces

__all__ = ["read_binaryproto", "write_binaryproto"]


def read_binaryproto(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the blob of a file: an image mean is (1, C, H, W), BGR.

    The array is a read-only view of the mapped file.

    Raises
    ------
    SphereFaceError
        The file is damaged or holds something else.
    """
    reader = map_file(path, "binaryproto")
    return read_blob(reader, 0, reader.size).data


def write_binaryproto(path: str | os.PathLike[str], blob: Blob | np.ndarray) -> None:
    """Write one blob, atomically.

    A 4-D array gets num, channels, height and width, as compute_image_mean writes them, because
    old readers of means know no other shape.
    """
    if not isinstance(blob, Blob):
        blob = Blob(blob, legacy=blob.ndim == 4)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        write_pieces(stream, encode_blob(blob, os.fspath(path)))
