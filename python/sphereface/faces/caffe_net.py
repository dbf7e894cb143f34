"""A face detector from a prototxt and its caffemodel: nets of the SSD family.

Source: how OpenCV's samples run res10_300x300_ssd, and S3FD's authors their net: the picture in the
net's size, BGR, minus 104, 117, 123. Such nets have no landmarks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.faces.face import Face, check_image
from sphereface.images import Preprocessing
from sphereface.inference import BoxFinder, Predictor, image_input

__all__ = ["CaffeNet", "CaffeNetSettings"]


class CaffeNetSettings(NamedTuple):
    """What the net sees, and what is kept.

    Parameters
    ----------
    threshold : float
        Least score.
    min_size : float
        Shorter side of the smallest face, in pixels of the picture.
    mean : tuple of float
        Of the channels B, G, R, or one for all.
    scale : float
        Factor after the mean.
    size : (int, int) or None
        Height and width that pictures are resized to; None for their own.
    """

    threshold: float = 0.5
    min_size: float = 0.0
    mean: tuple[float, ...] = (104.0, 117.0, 123.0)
    scale: float = 1.0
    size: tuple[int, int] | None = None


class CaffeNet:
    """Finds faces with a net that ends in DetectionOutput and has two classes.

    Parameters
    ----------
    prototxt : path
        The deploy file.
    weights : path, optional
        The caffemodel; beside the prototxt, with its name, if not given.
    settings : CaffeNetSettings
    native : bool
        Run pictures in their own size; otherwise ``settings.size``, or the net's if it has none.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Raises
    ------
    SphereFaceError
        A file is missing or not what it should be, or the net is no detector of faces.
    """

    def __init__(
        self,
        prototxt: str | os.PathLike[str],
        weights: str | os.PathLike[str] | None = None,
        settings: CaffeNetSettings | None = None,
        *,
        native: bool = False,
        device: str = "cpu",
    ) -> None:
        paths = [Path(prototxt), Path(weights or Path(prototxt).with_suffix(".caffemodel"))]
        for path in paths:
            if not path.is_file():
                raise SphereFaceError(
                    "no such file", where=str(path), fix="name the caffemodel with --models"
                )
        net = load(paths[0], paths[1])
        for layer in net.layers:
            if layer.type == "DetectionOutput" and layer.options.num_classes != 2:
                raise layer.error(
                    f"num_classes {layer.options.num_classes}", expected="2, background and faces"
                )
        settings = settings or CaffeNetSettings()
        predictor = Predictor(net, device=device)
        if not native and settings.size is None:
            settings = settings._replace(size=image_input(predictor)[1])
        self.settings = settings
        form = Preprocessing(
            size=settings.size, mean=np.asarray(settings.mean, np.float32), scale=settings.scale
        )
        self._finder = BoxFinder(predictor, form, least=settings.threshold)
        self.files = {str(path): sha256(path.read_bytes()).hexdigest() for path in paths}

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB picture of shape (H, W, 3), best first."""
        return self.detect([image])[0]

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of every picture."""
        for image in images:
            check_image(image)
        found = self._finder([image[:, :, ::-1] for image in images])
        return [
            [
                # Both ends inside.
                Face(box.corners - [0, 0, 1, 1], box.score, None)
                for box in boxes
                if min(box.corners[2:] - box.corners[:2]) >= self.settings.min_size
            ]
            for boxes in found
        ]
