"""The detectors by name, behind one seam."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import load_layers
from sphereface.errors import SphereFaceError, nearest
from sphereface.faces.caffe_net import CaffeNet, CaffeNetSettings
from sphereface.faces.face import Face, check_image
from sphereface.faces.mtcnn import Detector, Settings
from sphereface.faces.yunet import YuNet, YuNetSettings

__all__ = ["DETECTORS", "DetectorOptions", "OpenDetector", "open_detector"]

_PROTOTXT = ".prototxt"
_OF_CAFFE = ("mean", "scale", "size")


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """What a user may ask of a detector; None leaves it at the detector's own.

    Parameters
    ----------
    models : str, optional
        Folder or file of its weights.
    device : str
    min_size, factor, thresholds :
        As `mtcnn.Settings`; YuNet and Caffe's nets have one threshold.
    mean, scale, size :
        What a Caffe net sees, as in `CaffeNetSettings`; ``size`` may be "native".
    layers : tuple of str
        Python files that register layer types of a Caffe net; see `load_layers`.
    """

    models: str | None = None
    device: str = "cpu"
    min_size: float | None = None
    factor: float | None = None
    thresholds: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    scale: float | None = None
    size: tuple[int, int] | Literal["native"] | None = None
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenDetector:
    """A detector that is ready.

    Parameters
    ----------
    detect : callable
        RGB pictures -> the faces of each, best first.
    settings : mapping
        What its results depend on, for records.
    files : mapping of str to str
        Weights read -> their sha256.
    smallest : float
        Shorter side below which a picture cannot have a face.
    """

    detect: Callable[[Sequence[NDArray[np.uint8]]], list[list[Face]]]
    settings: Mapping[str, Any]
    files: Mapping[str, str]
    smallest: float


def open_detector(name: str, options: DetectorOptions | None = None) -> OpenDetector:
    """Return the detector of a name of `DETECTORS`, or of a path of a prototxt.

    Raises
    ------
    SphereFaceError
        There is none of that name, an option does not concern it, or its weights are missing.
    """
    if name not in DETECTORS and name.endswith(_PROTOTXT):
        return _caffe_net(name, options or DetectorOptions())
    if name not in DETECTORS:
        raise SphereFaceError(
            f'no detector "{name}"',
            expected=f"one of {', '.join(DETECTORS)}, or a {_PROTOTXT} of a Caffe net",
            fix=nearest(name, DETECTORS),
        )
    return DETECTORS[name](options or DetectorOptions())


def _mtcnn(options: DetectorOptions) -> OpenDetector:
    _refuse("mtcnn", options, *_OF_CAFFE)
    given = {
        key: value
        for key in ("min_size", "factor", "thresholds")
        if (value := getattr(options, key)) is not None
    }
    detector = Detector(options.models, Settings(**given), device=options.device)
    settings = {**detector.settings._asdict(), "weights": detector.digest}
    files = dict(detector.weights.files)
    return OpenDetector(detector.detect, settings, files, detector.settings.min_size)


def _yunet(options: DetectorOptions) -> OpenDetector:
    _refuse("yunet", options, "min_size", "factor", *_OF_CAFFE)
    if options.device != "cpu":
        raise SphereFaceError(f'device "{options.device}"', where="yunet", expected="cpu")
    settings = YuNetSettings()
    if options.thresholds is not None:
        settings = settings._replace(threshold=_one_threshold("yunet", options.thresholds))
    detector = YuNet(options.models, settings)
    data = detector.path.read_bytes()
    files = {str(detector.path): hashlib.sha256(data).hexdigest()}
    return OpenDetector(detector.detect, settings._asdict(), files, 1)


def _caffe_net(name: str, options: DetectorOptions) -> OpenDetector:
    _refuse(name, options, "factor")
    for path in options.layers:  # a worker's process has loaded none
        load_layers(path)
    settings = CaffeNetSettings()
    given = {key: getattr(options, key) for key in ("min_size", "mean", "scale", "size")}
    if options.thresholds is not None:
        given["threshold"] = _one_threshold(name, options.thresholds)
    native = given["size"] == "native"
    if native:
        given["size"] = None
    settings = settings._replace(**{k: v for k, v in given.items() if v is not None})
    detector = CaffeNet(name, options.models, settings, native=native, device=options.device)
    kept = {**detector.settings._asdict(), "weights": sorted(detector.files.values())}
    smallest = max(detector.settings.min_size, 1)
    return OpenDetector(detector.detect, kept, detector.files, smallest)


def _one_threshold(name: str, thresholds: tuple[float, ...]) -> float:
    if len(thresholds) != 1:
        raise SphereFaceError(f"thresholds {thresholds}", where=name, expected="one number")
    return thresholds[0]


def _none(options: DetectorOptions) -> OpenDetector:
    _refuse("none", options, "models", "min_size", "factor", "thresholds", *_OF_CAFFE)
    return OpenDetector(_whole, {}, {}, 1)


def _whole(images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
    faces = []
    for image in images:
        check_image(image)
        height, width = image.shape[:2]
        faces.append([Face(np.array([0.0, 0, width - 1, height - 1]), 1.0, None)])
    return faces


def _refuse(name: str, options: DetectorOptions, *unused: str) -> None:
    for option in unused:
        if getattr(options, option) is not None:
            raise SphereFaceError(f"it has no {option}", where=f'detector "{name}"')


DETECTORS: dict[str, Callable[[DetectorOptions], OpenDetector]] = {
    "mtcnn": _mtcnn,
    "yunet": _yunet,
    "none": _none,
}
