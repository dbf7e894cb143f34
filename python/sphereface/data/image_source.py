"""What ImageData and Data share: images one by one, transformed into a batch.

Source: load_batch of Caffe's image_data_layer.cpp and data_layer.cpp.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.data.order import Samples, random_bits
from sphereface.data.source import Batch, LoadOptions, SampleSource
from sphereface.data.transform import Transform
from sphereface.errors import SphereFaceError

__all__ = ["ImageSource"]


class ImageSource(SampleSource):
    """A source of labelled images; subclasses read one image.

    A sample has an index, and a key that its reader finds it by.

    Parameters
    ----------
    layer_param : LayerParameter
        With ``transform_param``.
    options : LoadOptions
    where : str
        Place for errors.
    """

    def __init__(self, layer_param: Any, options: LoadOptions, where: str = "") -> None:
        super().__init__(layer_param, options, where)
        self._transform = Transform(layer_param.transform_param, options.phase, self.where)
        self._shape: tuple[int, int, int] | None = None

    @abstractmethod
    def _read(self, key: Any) -> tuple[NDArray[Any], int]:
        """Return the image (H, W, C) and label of a sample; errors need not say where."""

    @abstractmethod
    def _place(self, key: Any) -> str:
        """Return where a sample is listed."""

    @abstractmethod
    def _first_key(self) -> Any:
        """Return the key of sample 0."""

    @abstractmethod
    def _key_after(self, key: Any) -> Any:
        """Return the key of the next sample; after the last, the first."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a batch; the first image that can be read tells its size."""
        if self._shape is None:
            image, _, _ = self._read_good(0, self._first_key())
            self._shape = self._output_shape(image)
        shapes = [(self.batch_size, *self._shape), (self.batch_size,)]
        return dict(zip(self.tops, shapes, strict=False))  # the label's top may be missing

    def first_image(self) -> NDArray[np.float32]:
        """Return the first image that can be read as a batch would hold it: (C, H, W)."""
        image, _, _ = self._read_good(0, self._first_key())
        out = np.empty(self._output_shape(image), np.float32)
        self._transform(image, [0] * Transform.draws, out)
        return out

    def _output_shape(self, image: NDArray[Any]) -> tuple[int, int, int]:
        height, width, channels = image.shape
        return self._transform.output_shape(channels, height, width)

    def _read_good(self, index: int, key: Any) -> tuple[NDArray[Any], int, Any]:
        """Return image, label and key of the first sample from `index` on that can be read."""
        while True:
            try:
                return *self._read(key), key
            except SphereFaceError as error:
                self._skip(index, self._placed(error, key))
                index, key = (index + 1) % self.order.size, self._key_after(key)

    def _load_part(self, batch: Batch, begin: int, samples: Samples, keys: Any) -> None:
        images, *label = (batch[name] for name in self.tops)
        bits = random_bits(
            self.order.seed,
            samples.epochs[:, None],
            samples.indices[:, None],
            np.arange(Transform.draws),
        ).tolist()
        for slot, index in enumerate(samples.indices.tolist()):
            image, value, key = self._read_good(index, keys[slot])
            try:
                if len(images) == 1 and images.shape[1:] != self._output_shape(image):
                    # In batches of one, Caffe lets each image have its own size.
                    images = np.empty((1, *self._output_shape(image)), np.float32)
                    batch[self.tops[0]] = images
                self._transform(image, bits[slot], images[begin + slot])
            except SphereFaceError as error:
                raise self._placed(error, key) from None
            if label:
                label[0][begin + slot] = value

    def _placed(self, error: SphereFaceError, key: Any) -> SphereFaceError:
        return error.at(self._place(key))
