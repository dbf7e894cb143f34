"""Image files as the blobs that a net was trained on.

Source: Caffe's io.cpp (ReadImageToCVMat) and data_transformer.cpp: images are read as BGR bytes,
resized bilinearly, then (pixel - mean) * scale, then mirrored. What differs: RGB, and the
transposed images of nets that were trained from Matlab, are options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.weights import read_binaryproto

__all__ = ["Color", "Preprocessing", "list_images", "read_mean"]

Color: TypeAlias = Literal["bgr", "rgb", "gray"]

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to a (C, H, W) array.

    Parameters
    ----------
    size : (int, int), optional
        Height and width to resize to; an image keeps its own without it.
    color : {"bgr", "rgb", "gray"}
        Order of the channels. A grey image has three equal ones, except with "gray".
    mean : ndarray of shape (C,), (1,) or (C, H, W), optional
        Subtracted from the pixels, which are 0 to 255; channels in the order of `color`.
    scale : float
        Factor after the mean is subtracted.
    mirror : bool
        Exchange left and right.
    transpose : bool
        Exchange height and width at the end, as Matlab's column-major arrays do: (C, W, H).
    """

    size: tuple[int, int] | None = None
    color: Color = "bgr"
    mean: np.ndarray | None = None
    scale: float = 1.0
    mirror: bool = False
    transpose: bool = False

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Return an image file as a float32 blob of shape (C, H, W), or (C, W, H).

        Raises
        ------
        SphereFaceError
            The file is no image, or does not fit the mean.
        """
        cv2 = _cv2()
        flag = cv2.IMREAD_GRAYSCALE if self.color == "gray" else cv2.IMREAD_COLOR
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, flag) if data.size else None
        if image is None:
            raise SphereFaceError(
                "not an image that OpenCV can read",
                where=os.fspath(path),
                expected="an image, or .npy/.npz",
            )
        if self.size is not None and image.shape[:2] != self.size:
            image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_LINEAR)
        if self.color == "rgb":
            image = image[:, :, ::-1]
        blob = np.atleast_3d(image).transpose(2, 0, 1).astype(np.float32)
        if self.mean is not None:
            blob -= self._mean_for(blob, os.fspath(path))
        blob *= np.float32(self.scale)
        if self.mirror:
            blob = blob[:, :, ::-1]
        return np.ascontiguousarray(blob.swapaxes(1, 2) if self.transpose else blob)

    def _mean_for(self, blob: np.ndarray, where: str) -> np.ndarray:
        mean = np.asarray(self.mean, np.float32)
        fits = mean.shape == blob.shape if mean.ndim == 3 else len(mean) in (1, len(blob))
        if not fits:
            raise SphereFaceError(
                f"an image of shape {blob.shape} and a mean of shape {mean.shape}",
                where=where,
                expected="one value, one a channel, or a mean image of the size of the images",
            )
        return mean if mean.ndim == 3 else mean.reshape(-1, 1, 1)


def read_mean(text: str, color: Color = "bgr") -> np.ndarray:
    """Return the mean of ``"127.5"``, ``"104,117,123"`` or ``"mean.binaryproto"``.

    Values are in the order of `color`. A file is always BGR, as compute_image_mean writes it, and
    is turned here.

    Raises
    ------
    SphereFaceError
        Neither numbers nor the name of a binaryproto.
    """
    try:
        return np.array([float(value) for value in text.split(",")], np.float32)
    except ValueError:
        pass
    mean = read_binaryproto(text)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise SphereFaceError(
            f"a blob of shape {mean.shape}", where=text, expected="a mean image (1, C, H, W)"
        )
    return mean[::-1] if color == "rgb" else mean


def list_images(inputs: Iterable[str | os.PathLike[str]], root: str = "") -> list[str]:
    """Return the image files meant by files, folders and lists.

    A folder means all images in it and below, sorted. A ``.txt`` file is a list as Caffe's
    ImageData reads: a path a line, which may be followed by a label.

    Parameters
    ----------
    inputs : iterable of path-like
        What the user named.
    root : str
        Folder that the paths in lists are relative to (``root_folder``).

    Raises
    ------
    SphereFaceError
        A folder or list is empty.
    """
    files: list[str] = []
    for item in map(Path, inputs):
        found: Sequence[str]
        if item.is_dir():
            found = sorted(str(p) for p in item.rglob("*") if p.suffix.lower() in _SUFFIXES)
        elif item.suffix == ".txt":
            lines = item.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            found = [os.path.join(root, _without_label(line)) for line in lines if line.strip()]  # noqa: PTH118 - an absolute path and an empty root stay
        else:
            found = [str(item)]
        if not found:
            raise SphereFaceError("no images", where=str(item))
        files += found
    return files


def _without_label(line: str) -> str:
    path, space, label = line.strip().rpartition(" ")
    return path.rstrip() if space and label.lstrip("+-").isdigit() else line.strip()


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        raise SphereFaceError(
            "OpenCV is not installed; it reads the images",
            fix="pip install opencv-python-headless",
        ) from None
    return cv2
