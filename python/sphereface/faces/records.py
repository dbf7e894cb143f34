"""The file of faces: a line of JSON a picture, coordinates 1-based as the original's.

``{"file": "Ann/Ann_0001.jpg", "status": "ok", "width": 250, "height": 250, "orientation": 1,
"faces": [{"box": [x1, y1, x2, y2], "score": 0.999, "landmarks": [[x, y], ...]}]}``; a status
other than ``ok`` has a ``reason`` and no faces. Beside it, ``FILE.meta.json`` tells where the
pictures are and how the faces were found. The original's dataList.mat is read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.faces.face import Face
from sphereface.faces.jobs import Record, meta_path
from sphereface.mat_file import read_mat

__all__ = ["FacesFile", "face_of", "face_record", "iterate_records", "read_faces"]

_DIGITS, _SCORE_DIGITS = 4, 6


def face_record(face: Face) -> Record:
    """Return a face as it stands in a line."""
    points = face.landmarks
    return {
        "box": _rounded(face.box + 1),
        "score": round(face.score, _SCORE_DIGITS),
        "landmarks": None if points is None else [_rounded(point + 1) for point in points],
    }


def face_of(record: Record) -> Face:
    """Return the face of a line's entry, in 0-based pixels."""
    points = record["landmarks"]
    landmarks = None if points is None else np.array(points, float).reshape(5, 2) - 1
    return Face(np.array(record["box"], float).reshape(4) - 1, float(record["score"]), landmarks)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


@dataclass(frozen=True, slots=True)
class FacesFile:
    """The lines of a file and what is known of them.

    Parameters
    ----------
    path : str
    records : list of dict
    root : str
        Folder of the pictures, if known.
    meta : dict
        Of ``FILE.meta.json``; empty without it.
    """

    path: str
    records: list[Record]
    root: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


def read_faces(path: str | os.PathLike[str]) -> FacesFile:
    """Read a file of faces, or dataList.mat.

    Raises
    ------
    SphereFaceError
        It is none; the error has the line.
    """
    source = Path(path)
    if source.suffix.lower() == ".mat":
        return FacesFile(str(source), _read_mat(source))
    beside = meta_path(source)
    meta = json.loads(beside.read_text()) if beside.is_file() else {}
    return FacesFile(str(source), list(iterate_records(source)), meta.get("root", ""), meta)


def iterate_records(path: Path) -> Iterator[Record]:
    """Yield the lines of a file of faces, checked."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                record = json.loads(line)
                for face in record["faces"]:
                    face_of(face)
                known = isinstance(record["file"], str) and isinstance(record["status"], str)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                known = False
            if not known:
                raise SphereFaceError(
                    "no line of a file of faces",
                    where=f"{path}:{number}",
                    expected="what `sphereface detect` writes",
                )
            yield record


def _read_mat(path: Path) -> list[Record]:
    found = read_mat(path, "faces")
    lists = [value for value in found.values() if getattr(value, "dtype", np.dtype(int)).names]
    entries = next((v.ravel() for v in lists if {"file", "facial5point"} <= {*v.dtype.names}), None)
    if entries is None:
        raise SphereFaceError(
            "no list of faces",
            where=str(path),
            expected="a struct array with the fields file, dataset and facial5point",
        )
    records = [_mat_record(entry, f"{path}: entry {n}") for n, entry in enumerate(entries, 1)]
    # The original keeps paths of its own machine: what comes before identity/name is dropped.
    folders = {str(PurePosixPath(record["file"]).parent.parent) for record in records}
    absolute = {folder.startswith("/") for folder in folders}
    if len(absolute) == 1 and (common := os.path.commonpath(folders)):
        for record in records:
            record["file"] = str(PurePosixPath(record["file"]).relative_to(common))
    return records


def _mat_record(entry: Any, where: str) -> Record:
    name = "".join(np.ravel(entry["file"]).astype(str)).replace("\\", "/")
    points = np.asarray(entry["facial5point"], float)
    if points.size == 0:
        return {"file": name, "status": "no_face", "reason": "no face found", "faces": []}
    if points.shape != (5, 2):
        raise SphereFaceError(f"landmarks of shape {points.shape}", where=where, expected="(5, 2)")
    low, high = points.min(axis=0), points.max(axis=0)
    face = Face(np.concatenate([low, high]) - 1, 1.0, points - 1)
    return {"file": name, "status": "ok", "faces": [face_record(face)]}
