"""The mean image of a data set, and the mean of each channel.

Source: Caffe's tools/compute_image_mean.cpp. What differs: sums are kept in float64 (Caffe's
float32 loses digits after some 100,000 images), and list files are read as well as a database.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.data.datum import datum_image
from sphereface.data.open_records import open_records
from sphereface.errors import SphereFaceError
from sphereface.images import read_image, read_image_list, resize_image

__all__ = ["compute_mean"]


def compute_mean(
    source: str | os.PathLike[str],
    *,
    root_folder: str = "",
    new_height: int = 0,
    new_width: int = 0,
    gray: bool = False,
    exif: bool = True,
    on_image: Callable[[int], object] = lambda total: None,
) -> NDArray[np.float32]:
    """Return the mean of all images.

    Parameters
    ----------
    source : path
        An LMDB or a LevelDB (a folder), or a list file.
    root_folder, new_height, new_width, gray
        How to read the images of a list.
    exif : bool
        Turn pictures upright as EXIF tells.
    on_image : callable
        Called after each image with the number of images.

    Returns
    -------
    ndarray of shape (1, C, H, W)
        float32, BGR; `sphereface.weights.write_binaryproto` makes a mean file of it.

    Raises
    ------
    SphereFaceError
        An image is bad or of another size than the first.
    """
    if bool(new_height) != bool(new_width):
        raise SphereFaceError(
            f"new_height {new_height}, new_width {new_width}", expected="both or neither"
        )
    if Path(source).is_dir():
        total, images = _of_records(source, exif)
    else:
        total, images = _of_list(source, root_folder, (new_height, new_width), gray, exif)
    first = 0
    sums: NDArray[np.float64] | None = None
    for count, (place, image) in enumerate(images, 1):
        if sums is None:
            sums, first = np.zeros(image.shape), count
        if image.shape != sums.shape:
            raise SphereFaceError(
                f"an image of shape {image.shape} (height, width, channels)",
                where=place,
                expected=f"{sums.shape}, as image {first}",
                fix="resize the images",
            )
        sums += image
        on_image(total)
    if sums is None:
        raise SphereFaceError("no images", where=os.fspath(source))
    return (sums / total).astype(np.float32).transpose(2, 0, 1)[None]


def _of_records(
    path: str | os.PathLike[str], exif: bool
) -> tuple[int, Iterator[tuple[str, NDArray[Any]]]]:
    records = open_records(path)

    def images() -> Iterator[tuple[str, NDArray[Any]]]:
        try:
            for index, (_, datum) in enumerate(records):
                try:
                    yield records.place(index), datum_image(datum, exif=exif)
                except SphereFaceError as error:
                    raise error.at(records.place(index)) from None
        finally:
            records.close()

    return records.size, images()


def _of_list(
    path: str | os.PathLike[str], root: str, size: tuple[int, int], gray: bool, exif: bool
) -> tuple[int, Iterator[tuple[str, NDArray[Any]]]]:
    entries = read_image_list(path)

    def images() -> Iterator[tuple[str, NDArray[Any]]]:
        for index, name in enumerate(entries.names):
            try:
                image = read_image(root + name, color="gray" if gray else "bgr", exif=exif)
            except SphereFaceError as error:
                raise error.at(entries.where(index)) from None
            yield entries.where(index), resize_image(image, *size) if size[0] else image

    return len(entries), images()
