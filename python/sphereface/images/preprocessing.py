"""From a picture to the blob that a net was trained on.

Source: Caffe's io.cpp (ReadImageToCVMat) and data_transformer.cpp: pictures are read as BGR bytes,
resized bilinearly, then (pixel - mean) * scale, then mirrored. What differs: RGB, and the
transposed pictures of nets that were trained from Matlab, are options.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.images.read import MAX_PIXELS, read_image
from sphereface.images.resize import resize_image

__all__ = ["Preprocessing"]


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
    exif : bool
        Turn pictures upright as EXIF tells.
    max_pixels : int
        Pixels that a file may have.
    """

    size: tuple[int, int] | None = None
    color: Literal["bgr", "rgb", "gray"] = "bgr"
    mean: np.ndarray | None = None
    scale: float = 1.0
    mirror: bool = False
    transpose: bool = False
    exif: bool = True
    max_pixels: int = MAX_PIXELS

    def __str__(self) -> str:
        size = "native" if self.size is None else "{}x{}".format(*self.size)
        steps = [f"color {self.color}", f"size {size}", f"mean {self._mean_text()}"]
        steps += [f"scale {self.scale:g}", f"mirror {'yes' if self.mirror else 'no'}"]
        steps += ["transposed"] * self.transpose
        return ", ".join([*steps, f"exif {'apply' if self.exif else 'ignore'}"])

    def _mean_text(self) -> str:
        if self.mean is None:
            return "none"
        if np.ndim(self.mean) == 3:
            return f"image {np.shape(self.mean)} around {np.mean(self.mean):g}"
        return ",".join(f"{value:g}" for value in np.ravel(self.mean))

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Return an image file as a float32 blob of shape (C, H, W), or (C, W, H).

        Raises
        ------
        SphereFaceError
            The file is no image, or does not fit the mean.
        """
        image = read_image(path, color=self.color, exif=self.exif, max_pixels=self.max_pixels)
        return self.blob(image, os.fspath(path))

    def blob(self, image: np.ndarray, where: str = "") -> np.ndarray:
        """Return a picture (H, W, C) of uint8, channels in the order of `color`, as `read` does."""
        if self.size is not None:
            image = resize_image(image, *self.size)
        blob = image.transpose(2, 0, 1).astype(np.float32)
        if self.mean is not None:
            blob -= self._mean_for(blob, where)
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
