"""ImageData: image files of a list.

Source: Caffe's image_data_layer.cpp. What differs: ``force_color`` and ``force_gray`` win over
``is_color`` (Caffe ignores them here); images of several sizes need ``new_height`` and
``new_width`` or ``crop_size``, or batches of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.data.image_source import ImageSource
from sphereface.data.source import LoadOptions, digest
from sphereface.errors import SphereFaceError
from sphereface.images import Color, read_image, read_image_list, resize_image
from sphereface.progress import Progress

__all__ = ["ImageData"]

_FILES_LOOKED_AT = 1_000_000  # some 2 s on a local disk
_MANY = 50_000


class ImageData(ImageSource):
    """Reader of an ImageData layer.

    Parameters
    ----------
    layer_param : LayerParameter
        With ``image_data_param`` and ``transform_param``.
    options : LoadOptions
    where : str
        Place for errors.

    Attributes
    ----------
    list : ImageList
        The entries of the list file.

    Raises
    ------
    SphereFaceError
        Options that exclude each other, or a list that cannot be read.
    """

    def __init__(self, layer_param: Any, options: LoadOptions, where: str = "") -> None:
        super().__init__(layer_param, options, where)
        param = layer_param.image_data_param
        self._size = (int(param.new_height), int(param.new_width))
        if bool(self._size[0]) != bool(self._size[1]):
            raise self.error(
                f"new_height {self._size[0]}, new_width {self._size[1]}", "both or neither"
            )
        forced = self._transform.color
        in_color = bool(param.is_color) if forced is None else forced
        self._color: Color = "bgr" if in_color else "gray"
        self._root = param.root_folder
        self.list = read_image_list(param.source, self.where)
        self._start(
            len(self.list), param.batch_size, shuffle=param.shuffle, rand_skip=param.rand_skip
        )

    def labels(self) -> Iterator[tuple[int, str]]:
        """Yield each line's label and place."""
        for index, label in enumerate(self.list.labels.tolist()):
            yield label, self.list.where(index)

    def check_files(self, limit: int = _FILES_LOOKED_AT) -> list[str]:
        """See whether the images are there, without reading them.

        Parameters
        ----------
        limit : int
            Of a longer list, so many are looked at, spread over it.

        Returns
        -------
        list of str
            A warning if some are missing, and bad images are to be skipped.

        Raises
        ------
        SphereFaceError
            Some are missing; the first is named.
        """
        indices = range(0, len(self.list), -(-len(self.list) // limit))
        with (
            Progress(len(indices), "looking for images")
            if len(indices) > _MANY
            else (nullcontext()) as progress
        ):
            missing = []
            for index in indices:
                if not _readable(self._root + self.list.names[index]):
                    missing.append(index)
                if progress is not None:
                    progress.update()
        if not missing:
            return []
        first = missing[0]
        count = f"{len(missing)} of {len(indices)} images cannot be opened, the first of them"
        error = SphereFaceError(count, where=self._place(first), fix=self._hint(first))
        if self.options.bad_images == "raise":
            raise error
        return [str(error)]

    @cached_property
    def content(self) -> str:
        """A hash of the names and labels in their order."""
        labels = self.list.labels.tolist()
        return digest(
            f"{name} {label}" for name, label in zip(self.list.names, labels, strict=True)
        )

    def record_name(self, index: int) -> str:
        """Return the name in the list."""
        return self.list.names[index]

    def _read(self, key: Any) -> tuple[NDArray[np.uint8], int]:
        try:
            image = read_image(
                self._root + self.list.names[key], color=self._color, exif=self.options.exif
            )
        except SphereFaceError as error:
            # The place of a sample names the file already.
            raise type(error)(
                error.problem, expected=error.expected, fix=self._hint(key) or error.fix
            ) from None
        if self._size[0]:
            image = resize_image(image, *self._size)
        return image, int(self.list.labels[key])

    def _place(self, key: Any) -> str:
        return f"{self.list.where(key)}: {self._root}{self.list.names[key]}"

    def _first_key(self) -> int:
        return 0

    def _key_after(self, key: Any) -> int:
        return int(key + 1) % len(self.list)

    def _hint(self, key: Any) -> str:
        name = self.list.names[key]
        before, _, last = name.rpartition(" ")
        if last.isdigit() and Path(self._root + before).exists():
            return "of several labels on a line, only the last is one: write a name and a label"
        if self._root and not self._root.endswith("/") and Path(self._root, name).exists():
            return f'end root_folder with a slash: "{self._root}/"'
        return ""


def _readable(path: str) -> bool:
    try:
        return os.access(path, os.R_OK)
    except ValueError:  # a NUL in the name
        return False
