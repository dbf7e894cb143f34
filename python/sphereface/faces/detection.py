"""A folder of pictures to a file of faces.

Every picture gets its line, whatever is wrong with it: status ``ok``, ``no_face``, ``unreadable``,
``too_large``, ``too_small`` or ``error``, the last four with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sphereface
from sphereface.errors import SphereFaceError
from sphereface.faces.detectors import DetectorOptions, OpenDetector, open_detector
from sphereface.faces.face import Face
from sphereface.faces.jobs import Journal, Record, read_lines, run_job, write_failures
from sphereface.faces.records import face_record
from sphereface.images import MAX_PIXELS, ImageError, decode_image, list_images, read_image_bytes
from sphereface.images.header import parse_header

__all__ = ["DetectionSummary", "Reading", "detect_folder"]

_BATCH = 16
_VALUES_TOGETHER = 100_000_000  # bytes of decoded pictures that wait for each other
_SCHEMA = 1
_LIST_SUFFIXES = (".txt", ".lst", ".list")


@dataclass(frozen=True, slots=True)
class Reading:
    """How pictures are read: turned upright by EXIF or not, and pixels allowed."""

    exif: bool = True
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class DetectionSummary:
    """What became of the pictures.

    Parameters
    ----------
    counts : mapping of str to int
        Pictures by status.
    faces : int
    failures : path
        CSV of the pictures without a face, with the reason.
    """

    counts: dict[str, int]
    faces: int
    failures: Path


def detect_folder(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    detector: str = "mtcnn",
    options: DetectorOptions | None = None,
    reading: Reading | None = None,
    root: str = "",
    workers: int = 1,
    overwrite: bool = False,
) -> DetectionSummary:
    """Find the faces of all pictures of a folder or list, or of one picture.

    Parameters
    ----------
    source : path
        A folder (with those below), a list (``.txt``) or a picture.
    output : path
        The file of faces, see `sphereface.faces.records`. A run that was stopped is continued.
    detector : str
        One of `DETECTORS`.
    options : DetectorOptions, optional
    reading : Reading, optional
    root : str
        Folder that the names of a list are relative to.
    workers : int
        Processes.
    overwrite : bool
        Replace `output`.

    Raises
    ------
    SphereFaceError
        Nothing to read, no weights, or `output` exists.
    """
    if workers < 1:
        raise SphereFaceError(f"{workers} workers", expected="at least 1")
    options, reading = options or DetectorOptions(), reading or Reading()
    files = list_images([source], root)
    base = _root(Path(source), root, [file.path for file in files])
    names = [os.path.relpath(file.path, base) for file in files]
    opened = open_detector(detector, options)
    settings = {"detector": detector, **opened.settings, **asdict(reading)}
    meta = {
        "schema": _SCHEMA,
        "version": sphereface.__version__,
        "root": os.fsdecode(base),
        "coordinates": "1-based, boxes x1 y1 x2 y2 with both ends inside",
        "settings": settings,
        "settings_hash": _hash(settings),
        "models": dict(opened.files),
    }
    journal = Journal(output, meta, names, _BATCH, counted="faces", overwrite=overwrite)
    items = list(zip(names, (file.path for file in files), strict=True))
    identity = {"detector": detector, "settings": _hash(settings)}
    if workers == 1:
        make = partial(_Worker, opened, reading, identity)
    else:
        make = partial(_open_worker, detector, options, reading, identity)
    run_job(journal, items, make, batch=_BATCH, workers=workers, label="detect")
    failures = Path(output).with_suffix(".failures.csv")
    write_failures(failures, "detect", read_lines(Path(output)))
    return DetectionSummary(dict(journal.counts), journal.things, failures)


def _root(source: Path, root: str, paths: list[str]) -> Path:
    if source.is_dir():
        return source.absolute()
    if source.suffix.lower() not in _LIST_SUFFIXES:
        return source.absolute().parent
    base = Path(root).absolute()
    parents = [Path(path).absolute().parent for path in paths]
    # A list may name pictures anywhere; their places are told from a folder that holds them all.
    outside = any(base not in (parent, *parent.parents) for parent in parents)
    return Path(os.path.commonpath(parents)) if outside else base


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _open_worker(
    detector: str, options: DetectorOptions, reading: Reading, identity: dict[str, str]
) -> _Worker:
    return _Worker(open_detector(detector, options), reading, identity)


class _Worker:
    """Reads a batch and finds its faces; nothing that a picture does ends the run."""

    def __init__(self, detector: OpenDetector, reading: Reading, identity: dict[str, str]) -> None:
        self._detector, self._reading, self._identity = detector, reading, identity

    def __call__(self, batch: Sequence[tuple[str, str]]) -> list[Record]:
        records: list[Record] = []
        waiting: list[tuple[Record, NDArray[np.uint8]]] = []
        for name, path in batch:
            record, image = self._read(name, path)
            records.append(record)
            if image is not None:
                waiting.append((record, image))
            if sum(image.size for _, image in waiting) > _VALUES_TOGETHER:
                self._finish(waiting)
        self._finish(waiting)
        return [_line(record, self._identity) for record in records]

    def _finish(self, waiting: list[tuple[Record, NDArray[np.uint8]]]) -> None:
        found = self._detect([image for _, image in waiting])
        for (record, _), faces in zip(waiting, found, strict=True):
            record.update(_outcome(faces))
        waiting.clear()

    def _read(self, name: str, path: str) -> tuple[Record, NDArray[np.uint8] | None]:
        record: Record = {"file": name, "status": "ok", "faces": []}
        try:
            data = read_image_bytes(path)
            header = parse_header(data, path)
            image = decode_image(data, color="rgb", where=path, **asdict(self._reading))
        except ImageError as error:
            return {**record, "status": error.status, "reason": error.problem}, None
        except MemoryError:
            return {**record, "status": "too_large", "reason": "it does not fit in memory"}, None
        height, width = image.shape[:2]
        orientation = header.orientation if self._reading.exif else 1
        record.update(width=width, height=height, orientation=orientation)
        if min(height, width) < self._detector.smallest:
            reason = f"{width} x {height} pixels; faces have at least {self._detector.smallest:g}"
            return {**record, "status": "too_small", "reason": reason}, None
        return record, image

    def _detect(self, images: list[Any]) -> list[list[Face] | Exception]:
        try:
            return list(self._detector.detect(images))
        except Exception as error:
            if len(images) == 1:
                return [error]
            return [found for image in images for found in self._detect([image])]


def _outcome(faces: list[Face] | Exception) -> Record:
    if isinstance(faces, Exception):
        return {"status": "error", "reason": f"{type(faces).__name__}: {faces}"}
    if not faces:
        return {"status": "no_face", "reason": "no face found"}
    return {"faces": [face_record(face) for face in faces]}


def _line(record: Record, identity: dict[str, str]) -> Record:
    """Put the fields in order: what a reader looks for first, the long list of faces last."""
    fields = ("file", "status", "reason", "width", "height", "orientation")
    ordered = {field: record[field] for field in fields if field in record}
    return {**ordered, **identity, "faces": record["faces"]}
