"""``caffe.Detector``: scores of windows of images, with context around them (R-CNN).

Source: python/caffe/detector.py. What differs: selective search, which ran in MATLAB, is not here;
give the windows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.proto.schema import TEST
from sphereface.pycaffe import io
from sphereface.pycaffe.classifier import image_transformer
from sphereface.pycaffe.net import Net

__all__ = ["Detector"]

Window = Sequence[float]  # ymin, xmin, ymax, xmax


class Detector(Net):
    """A net with the cropping and preprocessing of windows.

    Parameters
    ----------
    model_file, pretrained_file : path
        Deploy prototxt and caffemodel.
    mean, input_scale, raw_scale, channel_swap
        As for the setters of `io.Transformer`.
    context_pad : int, optional
        Pixels of the net's input, on each side, that show what is around the window.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context; what lies outside the image is filled with the mean."""
        name = self.inputs[0]
        self.context_pad = context_pad or 0
        shape = self.blobs[name].shape[1:]
        mean = self.transformer.mean.get(name, np.zeros(1))
        raw_scale = self.transformer.raw_scale.get(name, 1)
        filling = np.broadcast_to(mean, shape).astype(np.float32) / raw_scale
        swap = np.argsort(self.transformer.channel_swap.get(name, range(shape[0])))
        self.crop_mean = filling[swap].transpose(1, 2, 0)

    def detect_windows(
        self, images_windows: Iterable[tuple[str | os.PathLike[str], Iterable[Window]]]
    ) -> list[dict[str, Any]]:
        """Score windows.

        Parameters
        ----------
        images_windows : iterable of (path, windows)
            Image files and their windows (ymin, xmin, ymax, xmax).

        Returns
        -------
        list of dict
            ``window``, ``prediction`` and ``filename`` of each window.
        """
        name = self.inputs[0]
        found: list[dict[str, Any]] = []
        data = []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                crop = self.crop(image, window)
                data.append(self.transformer.preprocess(name, crop))
                found.append({"window": window, "filename": filename})
        batch: dict[str, Any] = {name: np.stack(data)}
        scores = self.forward_all(**batch)[self.outputs[0]]
        for entry, score in zip(found, scores.reshape(len(scores), -1), strict=True):
            entry["prediction"] = score
        return found

    def crop(self, im: NDArray[Any], window: Window) -> NDArray[np.float32]:
        """Return a window of an image, with context of `context_pad` in the net's input size."""
        box = np.array(window, float)
        if not self.context_pad:
            top, left, bottom, right = box.astype(int)
            return im[top:bottom, left:right]
        size = self.blobs[self.inputs[0]].shape[3]
        scale = size / (size - 2.0 * self.context_pad)
        half = (box[2:] - box[:2] + 1) / 2
        centre = box[:2] + half
        box = np.concatenate([centre - scale * half, centre + scale * half]).round()
        # The extent counts one pixel more than the slice has, as in pycaffe.
        fit = size / (box[2:] - box[:2] + 1)
        limit = np.array(im.shape[:2])
        low, high = (part.clip(0, limit).astype(int) for part in (box[:2], box[2:]))
        start = ((low - box[:2]) * fit).round().astype(int)
        dims = np.minimum(((high - low + 1) * fit).round().astype(int), size - start)
        crop = self.crop_mean.copy()
        if (high > low).all():
            resized = io.resize_image(im[low[0] : high[0], low[1] : high[1]], dims)
            crop[start[0] : start[0] + dims[0], start[1] : start[1] + dims[1]] = resized
        return crop
