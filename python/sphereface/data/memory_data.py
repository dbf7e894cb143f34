"""MemoryData: arrays that a program gives.

Source: Caffe's memory_data_layer.cpp. What differs: any number of images is taken; batches go on
with the first ones, where Caffe asks for a multiple of the batch size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.data.order import SampleOrder, random_bits
from sphereface.data.source import Batch, LoadOptions, Source
from sphereface.data.transform import Transform

__all__ = ["MemoryData"]


class MemoryData(Source):
    """Reader of a MemoryData layer; `set_arrays` or `set_images` gives it its data.

    Parameters
    ----------
    layer_param : LayerParameter
        With ``memory_data_param``; its ``transform_param`` is for `set_images`.
    options : LoadOptions
    where : str
        Place for errors.
    """

    def __init__(self, layer_param: Any, options: LoadOptions, where: str = "") -> None:
        super().__init__(layer_param, where)
        param = layer_param.memory_data_param
        self._shape = (param.batch_size, param.channels, param.height, param.width)
        if min(self._shape) < 1:
            raise self.error(
                f"batch_size, channels, height, width {self._shape}", "all of them, positive"
            )
        self._options = options
        self._transform = Transform(layer_param.transform_param, options.phase, self.where)
        self._order: SampleOrder | None = None
        self._images: NDArray[np.float32] = np.empty((0, *self._shape[1:]), np.float32)
        self._labels: NDArray[np.float32] = np.empty(0, np.float32)

    def set_arrays(self, images: Any, labels: Any) -> None:
        """Use arrays as they are, from their first row on.

        Parameters
        ----------
        images : array of shape (N, C, H, W)
        labels : array of N values
        """
        images = np.asarray(images, np.float32)
        labels = np.asarray(labels, np.float32).reshape(-1)
        if images.ndim != 4 or images.shape[1:] != self._shape[1:] or not len(images):
            raise self.error(
                f"images of shape {images.shape}", f"(N, {', '.join(map(str, self._shape[1:]))})"
            )
        if len(images) != len(labels):
            raise self.error(f"{len(images)} images and {len(labels)} labels", "as many of both")
        self._images, self._labels = images, labels
        self._order = SampleOrder(
            len(images),
            self._shape[0],
            seed=self._options.settled_seed,
            rank=self._options.rank,
            ranks=self._options.ranks,
        )

    def set_images(self, images: Sequence[NDArray[Any]], labels: Any) -> None:
        """Use images (H, W, C), BGR, transformed once, now (Caffe's AddMatVector)."""
        out = np.empty((len(images), *self._shape[1:]), np.float32)
        bits = random_bits(
            self._options.settled_seed, np.arange(len(images))[:, None], np.arange(Transform.draws)
        ).tolist()
        for image, draws, row in zip(images, bits, out, strict=True):
            self._transform(image if image.ndim == 3 else image[:, :, None], draws, row)
        self.set_arrays(out, labels)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a batch."""
        return dict(zip(self.tops, [self._shape, self._shape[:1]], strict=True))

    def next_batch(self) -> Batch:
        """Return the next batch."""
        indices = self._ordered().take().indices
        return dict(zip(self.tops, [self._images[indices], self._labels[indices]], strict=True))

    def state(self) -> dict[str, Any]:
        """Return the position in the arrays; empty before they are set."""
        return self._order.state(self._order.position) if self._order is not None else {}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Go on where `state` was taken, after the same arrays were set."""
        if self._order is not None and state:
            # pycaffe once kept the position alone.
            return self._order.restore({**self._order.state(0), **state}, self.where)
        if state:
            return [f"{self.where}: no arrays were set; their position is dropped"]
        return []

    def seek(self, batches: int) -> None:
        """Go to where `batches` batches have been read."""
        self._ordered().seek(batches)

    def labels(self) -> Iterator[tuple[int, str]]:
        """Yield each label and its number."""
        for index, label in enumerate(self._labels.tolist()):
            yield int(label), f"{self.where}: label {index}"

    def _ordered(self) -> SampleOrder:
        if self._order is None:
            raise self.error("no data", fix="call set_arrays(images, labels) first")
        return self._order
