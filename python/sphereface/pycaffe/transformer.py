"""``caffe.io.Transformer``: from an image to what a net's input holds, and back.

Source: python/caffe/io.py. The order is resize, transpose, channel swap, raw scale, mean, input
scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError, nearest
from sphereface.pycaffe.image_resize import resize_image

__all__ = ["Transformer"]


class Transformer:
    """Preprocessing for the inputs of a net.

    Parameters
    ----------
    inputs : mapping of str to sequence of int
        Shape of each input: ``{"data": net.blobs["data"].data.shape}``.

    Examples
    --------
    >>> transformer = Transformer({"data": (1, 3, 112, 96)})
    >>> transformer.set_transpose("data", (2, 0, 1))
    >>> transformer.set_channel_swap("data", (2, 1, 0))
    >>> transformer.set_raw_scale("data", 255)
    >>> transformer.preprocess("data", np.ones((112, 96, 3))).max()
    np.float32(255.0)
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, NDArray[Any]] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: NDArray[Any]) -> NDArray[np.float32]:
        """Return an image (H, W, K) as input `in_` takes it."""
        shape = self._shape(in_)
        result = np.array(data, np.float32)
        if result.shape[:2] != shape[2:]:
            result = resize_image(result, shape[2:])
        if in_ in self.transpose:
            result = result.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            result = result[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            result *= self.raw_scale[in_]
        if in_ in self.mean:
            result -= self.mean[in_]
        if in_ in self.input_scale:
            result *= self.input_scale[in_]
        return result

    def deprocess(self, in_: str, data: NDArray[Any]) -> NDArray[np.float32]:
        """Undo `preprocess`, except for its resizing."""
        self._shape(in_)
        result = np.array(data, np.float32).squeeze()
        if in_ in self.input_scale:
            result /= self.input_scale[in_]
        if in_ in self.mean:
            result += self.mean[in_]
        if in_ in self.raw_scale:
            result /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            result = result[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            result = result.transpose(np.argsort(self.transpose[in_]))
        return result

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes, (2, 0, 1) for images (H, W, K)."""
        axes = len(self._shape(in_)) - 1
        if len(order) != axes:
            raise SphereFaceError(
                f"transpose order {tuple(order)}",
                where=f"input {in_}",
                expected=f"the same number of dimensions as the input, {axes}",
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels, (2, 1, 0) from RGB to BGR."""
        channels = self._shape(in_)[1]
        if len(order) != channels:
            raise SphereFaceError(
                f"channel swap {tuple(order)}",
                where=f"input {in_}",
                expected=f"one number for each of the input channels, {channels}",
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor that comes before the mean, 255 for images in [0, 1]."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: NDArray[Any]) -> None:
        """Set the mean to subtract: one value a channel (K,), or an image (K, H, W) or (H, W).

        An image of another size than the input is resized.
        """
        shape = self._shape(in_)
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if mean.shape[0] != shape[1]:
                raise SphereFaceError(
                    f"mean channels incompatible with input: {mean.shape[0]}",
                    where=f"input {in_}",
                    expected=f"{shape[1]}",
                )
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            image = mean[np.newaxis] if mean.ndim == 2 else mean
            if image.ndim != 3 or image.shape[0] not in (1, shape[1]):
                raise SphereFaceError(
                    f"mean shape invalid: {mean.shape}",
                    where=f"input {in_}",
                    expected=f"({shape[1]},) or {shape[1:]}",
                )
            if image.shape[1:] != shape[2:]:
                image = resize_image(image.transpose(1, 2, 0), shape[2:]).transpose(2, 0, 1)
            mean = image
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor that comes last, 0.0078125 for SphereFace."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise SphereFaceError(
                f"{in_} is not one of the net inputs: {', '.join(self.inputs)}",
                fix=nearest(in_, self.inputs),
            )
        return self.inputs[in_]
