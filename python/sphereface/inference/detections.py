"""Boxes of pictures, by a net that ends in DetectionOutput.

Source: what SSD's ssd_detect.cpp prints. What differs: boxes are in pixels of the picture as it was
before it was resized, and have names where a label map gives them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.files import read_text
from sphereface.images import Preprocessing
from sphereface.inference.forward import image_input
from sphereface.inference.predictor import Predictor
from sphereface.proto import text

__all__ = ["Box", "BoxFinder", "detection_blob", "read_labels"]

_SUFFIXES = (".prototxt", ".pbtxt")
_LABEL_BYTES = 2**20


class Box(NamedTuple):
    """One object.

    Attributes
    ----------
    label : int
        Number of its class.
    score : float
    corners : ndarray of shape (4,), float64
        x1, y1, x2, y2 in pixels, borders of the box: a whole picture is 0, 0, width, height.
    """

    label: int
    score: float
    corners: NDArray[np.float64]


def detection_blob(net: Net) -> str | None:
    """Return the output of a net that a DetectionOutput layer makes, None if there is none."""
    for node in net.graph.nodes:
        if node.type == "DetectionOutput" and node.param.top[0] in net.outputs:
            return str(node.param.top[0])
    return None


def read_labels(path: str | os.PathLike[str]) -> dict[int, str]:
    """Return the names of classes by number.

    Parameters
    ----------
    path : path-like
        A label map of SSD (``item { name label display_name }``, named .prototxt or .pbtxt), or a
        text with a name a line, from number 0 on.

    Raises
    ------
    SphereFaceError
        It cannot be read, or is another message.
    """
    if os.fspath(path).endswith(_SUFFIXES):
        items = text.read(path, "LabelMap").item
        return {item.label: item.display_name or item.name for item in items}
    lines = read_text(path, limit=_LABEL_BYTES, what="list of labels").splitlines()
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


class BoxFinder:
    """Finds the boxes of pictures.

    Parameters
    ----------
    predictor : Predictor
        Of a net with one input, an image, that ends in DetectionOutput.
    form : Preprocessing
        From a picture to the input; one that moves the picture's sides is refused.
    least : float
        Score below which boxes are left out.

    Raises
    ------
    SphereFaceError
        Another net, or a form that mirrors or transposes.
    """

    def __init__(self, predictor: Predictor, form: Preprocessing, *, least: float = 0.0) -> None:
        blob = detection_blob(predictor.net)
        if blob is None:
            raise SphereFaceError(
                f'net "{predictor.net.name}" has the outputs {", ".join(predictor.net.outputs)}',
                expected="an output of a DetectionOutput layer",
            )
        if form.mirror or form.transpose:
            raise SphereFaceError(
                "pictures that are mirrored or transposed", expected="them as they are, for boxes"
            )
        self._predictor, self._form, self._blob, self._least = predictor, form, blob, least
        self._input, _ = image_input(predictor)
        self._shares = all(
            layer.options.normalized_bbox
            for layer in predictor.net.layers
            if layer.type == "DetectionOutput"
        )

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Box]]:
        """Return the boxes of each picture (H, W, C), channels as the form says, best first.

        Pictures that have one size as inputs go through the net together.
        """
        blobs = [self._form.blob(image) for image in images]
        if len({blob.shape for blob in blobs}) > 1:
            return [boxes for image in images for boxes in self([image])]
        if not blobs:
            return []
        top = self._predictor({self._input: np.stack(blobs)}, (self._blob,))[self._blob]
        rows = top.numpy().reshape(-1, 7).astype(np.float64)
        found: list[list[Box]] = [[] for _ in images]
        for number, label, score, *corners in rows[np.argsort(-rows[:, 2], kind="stable")]:
            if label >= 0 and score >= self._least:
                image, blob = images[int(number)], blobs[int(number)]
                box = np.array(corners) * self._factors(image.shape, blob.shape)
                found[int(number)].append(Box(int(label), float(score), box))
        return found

    def _factors(self, image: Sequence[int], blob: Sequence[int]) -> NDArray[np.float64]:
        """Return what takes corners to pixels of the picture."""
        height, width = image[:2]
        if self._shares:
            return np.array([width, height] * 2, np.float64)
        return np.array([width / blob[2], height / blob[1]] * 2)
