"""The mean that is subtracted from pictures, however it is given.

Source: mean_file of Caffe's data_transformer.cpp, and the ``.npy`` files of pycaffe's examples.
What differs: every form is read everywhere.
"""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.files import open_regular
from sphereface.weights import read_binaryproto

__all__ = ["read_mean", "read_mean_file"]

_NPY = b"\x93NUMPY"


def read_mean(
    text: str, color: Literal["bgr", "rgb", "gray", "unchanged"] = "bgr"
) -> NDArray[np.float32]:
    """Return the mean of ``"127.5"``, ``"104,117,123"``, ``"x.binaryproto"`` or ``"x.npy"``.

    Values are in the order of `color`. A file is always BGR, as compute_image_mean writes it, and
    is turned here.

    Returns
    -------
    ndarray of shape (C,), (1,) or (C, H, W)

    Raises
    ------
    SphereFaceError
        Neither numbers nor the name of a file that holds a mean.
    """
    try:
        values = np.array([float(value) for value in text.split(",")], np.float32)
    except ValueError:
        mean = read_mean_file(text)
        return mean[::-1] if color == "rgb" else mean
    if not np.isfinite(values).all():
        raise SphereFaceError(f'mean "{text}"', expected="finite numbers")
    return values


def read_mean_file(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Return the mean of a binaryproto or numpy file, told by its content, channels in its order.

    Returns
    -------
    ndarray of shape (C, H, W)
        A mean image; or (C,), one value a channel.

    Raises
    ------
    SphereFaceError
        The file is damaged or holds something else.
    """
    name = os.fspath(path)
    numpy = _is_npy(name) or name.endswith(".npy")
    if numpy:
        mean, forms = _read_npy(name), "(C, H, W), (1, C, H, W) or (C,)"
    else:
        mean, forms = np.asarray(read_binaryproto(name), np.float32), "a mean image (1, C, H, W)"
    if mean.ndim == 4 and len(mean) == 1:
        mean = mean[0]
    if mean.ndim not in ((1, 3) if numpy else (3,)) or not mean.size:
        raise SphereFaceError(f"a mean of shape {mean.shape}", where=name, expected=forms)
    return mean


def _is_npy(path: str) -> bool:
    with open_regular(path, "file of a mean") as stream:
        return stream.read(len(_NPY)) == _NPY


def _read_npy(path: str) -> NDArray[np.float32]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError("it holds no array of numbers")
    except Exception as error:  # numpy's parser of headers raises many kinds
        raise SphereFaceError(f"not a numpy file ({error})", where=path) from None
    return np.array(array, np.float32)
