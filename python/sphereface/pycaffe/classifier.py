"""``caffe.Classifier``: class scores of images, averaged over ten crops.

Source: python/caffe/classifier.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.proto.schema import TEST
from sphereface.pycaffe import io
from sphereface.pycaffe.net import Net

__all__ = ["Classifier", "image_transformer"]


class Classifier(Net):
    """A net with the preprocessing of its images.

    Parameters
    ----------
    model_file, pretrained_file : path
        Deploy prototxt and caffemodel.
    image_dims : sequence of int, optional
        (height, width) that images are scaled to before they are cropped to the input's size.
    mean, input_scale, raw_scale, channel_swap
        As for the setters of `io.Transformer`.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = np.array(image_dims) if image_dims else self.crop_dims

    def predict(
        self, inputs: Sequence[NDArray[Any]], oversample: bool = True
    ) -> NDArray[np.float32]:
        """Return the scores of images.

        Parameters
        ----------
        inputs : sequence of ndarray of shape (H, W, K)
            Images as `io.load_image` reads them.
        oversample : bool
            Average over the corners, the centre and their mirror images, not the centre alone.

        Returns
        -------
        ndarray of shape (N, C)
        """
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            images = io.oversample(images, self.crop_dims)
        else:
            top, left = (self.image_dims - self.crop_dims) // 2
            images = images[:, top : top + self.crop_dims[0], left : left + self.crop_dims[1]]
        name = self.inputs[0]
        data = np.stack([self.transformer.preprocess(name, image) for image in images])
        batch: dict[str, Any] = {name: data}
        scores = self.forward_all(**batch)[self.outputs[0]]
        if oversample:
            scores = scores.reshape(len(scores) // 10, 10, -1).mean(1)
        return scores


def image_transformer(
    net: Net,
    mean: NDArray[Any] | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """Return the transformer of images (H, W, K) for the first input of `net`."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
