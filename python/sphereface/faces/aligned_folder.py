"""A file of faces to a folder of aligned crops.

Source: face_align_demo.m of SphereFace, which keeps the folders' structure and writes JPEG of
quality 75. What differs: PNG on request; beside the crops, ``aligned.jsonl`` tells what became of
every picture and ``aligned.jsonl.meta.json`` how they were made, so that no crop is aligned twice.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import sphereface
from sphereface.errors import SphereFaceError
from sphereface.faces.alignment import align
from sphereface.faces.face import Face
from sphereface.faces.jobs import (
    Journal,
    Record,
    begun_with,
    meta_path,
    part_path,
    read_lines,
    run_job,
    write_failures,
)
from sphereface.faces.records import FacesFile, face_of, read_faces
from sphereface.faces.selection import select
from sphereface.faces.templates import Template, find_template
from sphereface.images import MAX_PIXELS, ImageError, read_image, write_image

__all__ = [
    "SPHEREFACE_CROPS",
    "AlignmentSummary",
    "Crops",
    "align_folder",
    "crop_names",
    "holds_crops",
    "missing_crops",
    "sidecar_meta",
]

_BATCH = 32
_SCHEMA = 1
_SIDECAR = "aligned.jsonl"
_SIDECARS = (_SIDECAR, f"{_SIDECAR}.part")
_FORMATS = ("jpg", "png")


class Crops(NamedTuple):
    """How crops are made and written.

    Parameters
    ----------
    template : str
        One of `TEMPLATES`.
    select : str
        One of `SELECTIONS`; ``all`` adds .0, .1 and so on to the names, best face first.
    format : {"jpg", "png"}
    quality : int
        Of JPEG, 1 to 100.
    """

    template: str = "112x96"
    select: str = "central"
    format: str = "jpg"
    quality: int = 75


SPHEREFACE_CROPS = Crops()


@dataclass(frozen=True, slots=True)
class AlignmentSummary:
    """What became of the pictures.

    Parameters
    ----------
    counts : mapping of str to int
        Pictures by status.
    crops : int
        Files written.
    several : int
        Pictures in which more than one face was found.
    failures : path
        CSV of the pictures without a crop, with the reason.
    """

    counts: dict[str, int]
    crops: int
    several: int
    failures: Path


class _Item(NamedTuple):
    """A picture to crop: its line, its place, its crops' name without suffix."""

    record: Record
    path: str
    target: str


class _Source(NamedTuple):
    """How the pictures were read when their faces were found."""

    exif: bool
    max_pixels: int


def align_folder(
    faces: str | os.PathLike[str],
    output: str | os.PathLike[str],
    crops: Crops = SPHEREFACE_CROPS,
    *,
    root: str | os.PathLike[str] = "",
    workers: int = 1,
    overwrite: bool = False,
) -> AlignmentSummary:
    """Write the aligned crops of all pictures of a file of faces.

    Parameters
    ----------
    faces : path
        What ``sphereface detect`` has written, or the original's dataList.mat.
    output : path
        Folder for the crops, at the pictures' relative paths. A run that was stopped is continued.
    crops : Crops
    root : path
        Folder of the pictures, where it is not the one that the file knows.
    workers : int
        Processes.
    overwrite : bool
        Write into a folder that has other files; crops of an earlier run there are removed.

    Raises
    ------
    SphereFaceError
        The pictures are not there or are crops already, or `output` has other files.
    """
    template = find_template(crops.template)
    _check(crops)
    file = read_faces(faces)
    base, folder = _root(file, root), Path(output)
    _prepare(folder, base, overwrite=overwrite)
    meta = {
        "schema": _SCHEMA,
        "version": sphereface.__version__,
        "template": _described(template),
        "crops": crops._asdict(),
        "faces": str(Path(faces).absolute()),
        "faces_sha256": sha256(Path(faces).read_bytes()).hexdigest(),
        "root": str(base),
    }
    sidecar = folder / _SIDECAR
    if overwrite:
        _remove_crops(sidecar, meta)
    names = [record["file"] for record in file.records]
    journal = Journal(
        sidecar,
        meta,
        names,
        _BATCH,
        counted="crops",
        overwrite=overwrite,
        still_there=lambda record: all((folder / name).is_file() for name in record["crops"]),
    )
    items = [
        _Item(record, str(base / record["file"]), target)
        for record, target in zip(file.records, crop_names(names), strict=True)
    ]
    settings = file.meta.get("settings", {"exif": False})  # Matlab knew nothing of EXIF
    source = _Source(settings.get("exif", True), settings.get("max_pixels", MAX_PIXELS))
    make = partial(_Worker, folder, crops, source)
    run_job(journal, items, make, batch=_BATCH, workers=workers, label="align")
    failures = folder / "failures.csv"
    write_failures(failures, "align", read_lines(sidecar))
    several = sum(len(record["faces"]) > 1 for record in file.records)
    return AlignmentSummary(dict(journal.counts), journal.things, several, failures)


def sidecar_meta(folder: Path) -> Path:
    """Return the file that tells how a folder's crops were made; only crops of ours have it."""
    return meta_path(folder / _SIDECAR)


def holds_crops(folder: Path) -> bool:
    """Tell whether `align_folder` has written into a folder, or begun to."""
    return any((folder / name).exists() for name in _SIDECARS)


def missing_crops(folder: Path) -> set[str]:
    """Return the crops, relative to their folder, that a finished run wrote and that are gone."""
    if not (folder / _SIDECAR).is_file():
        return set()
    names = (name for record in read_lines(folder / _SIDECAR) for name in record["crops"])
    return {name for name in names if not (folder / name).is_file()}


def crop_names(names: Sequence[str]) -> list[str]:
    """Return where the crops of pictures go, without suffix.

    Pictures that differ in the suffix only keep it: a.jpg and a.png become a.jpg and a.png with
    another suffix behind. A picture outside the root has no place: an empty name.
    """
    paths = [PurePosixPath(os.path.normpath(name)) for name in names]
    inside = [not path.is_absolute() and path.parts[:1] != ("..",) for path in paths]
    stems = Counter(str(path.with_suffix("")) for path in dict.fromkeys(paths) if path.name)
    return [
        str(path if stems[str(path.with_suffix(""))] > 1 else path.with_suffix("")) if fits else ""
        for path, fits in zip(paths, inside, strict=True)
    ]


def _check(crops: Crops) -> None:
    select([], crops.select, 1, 1)
    if crops.format not in _FORMATS:
        raise SphereFaceError(f'format "{crops.format}"', expected=" or ".join(_FORMATS))
    if not 1 <= crops.quality <= 100:
        raise SphereFaceError(f"quality {crops.quality}", expected="1 to 100")


def _root(file: FacesFile, given: str | os.PathLike[str]) -> Path:
    root = Path(given or file.root or ".").absolute()
    if not root.is_dir():
        raise SphereFaceError("no such folder of pictures", where=str(root), fix="give --root")
    return root


def _prepare(folder: Path, root: Path, *, overwrite: bool) -> None:
    if holds_crops(root):
        raise SphereFaceError(
            "the pictures are aligned crops already",
            where=str(root),
            expected="photographs",
            fix="aligning twice would move every face",
        )
    folder.mkdir(parents=True, exist_ok=True)
    if folder.samefile(root):
        raise SphereFaceError("the output is the folder of the pictures", where=str(folder))
    if not overwrite and not holds_crops(folder) and any(folder.iterdir()):
        raise SphereFaceError(
            "the folder has other files",
            where=str(folder),
            fix="give a new one, or --overwrite to write among them",
        )


def _remove_crops(sidecar: Path, meta: Mapping[str, Any]) -> None:
    """Remove the crops of a run that is replaced, so that none of them stays among the new."""
    part = part_path(sidecar)
    for lines in (sidecar, *(() if begun_with(sidecar, meta) else (part,))):
        if lines.is_file():
            for record in read_lines(lines):
                for name in record["crops"]:
                    (sidecar.parent / name).unlink(missing_ok=True)
            lines.unlink()


def _described(template: Template) -> dict[str, Any]:
    return {**asdict(template), "points": template.points.tolist()}


class _Worker:
    """Crops a batch; nothing that a picture does ends the run."""

    def __init__(self, folder: Path, crops: Crops, source: _Source) -> None:
        self._folder, self._crops, self._source = folder, crops, source
        self._template = find_template(crops.template)

    def __call__(self, batch: Sequence[_Item]) -> list[Record]:
        return [self._crop(item) for item in batch]

    def _crop(self, item: _Item) -> Record:
        line = {"file": item.record["file"], "status": item.record["status"], "crops": []}
        if line["status"] != "ok":
            return {**line, "reason": item.record.get("reason", "")}
        if not item.target:
            return {**line, "status": "error", "reason": "the picture lies outside the root"}
        try:
            return {**line, "crops": self._write(item)}
        except ImageError as error:
            return {**line, "status": error.status, "reason": error.problem}
        except (SphereFaceError, OSError, MemoryError) as error:
            return {**line, "status": "error", "reason": f"{error}"}

    def _write(self, item: _Item) -> list[str]:
        image = _read(item.path, self._source)
        height, width = image.shape[:2]
        before = item.record.get("height", height), item.record.get("width", width)
        if before != (height, width):
            raise SphereFaceError(
                f"the picture has {width} x {height} pixels now, not {before[1]} x {before[0]}"
            )
        faces = [face_of(face) for face in item.record["faces"]]
        chosen = select(faces, self._crops.select, height, width)
        made = [self._aligned(image, face) for face in chosen]
        names = []
        for index, crop in enumerate(made):
            number = f".{index}" if self._crops.select == "all" else ""
            names.append(f"{item.target}{number}.{self._crops.format}")
            path = self._folder / names[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, crop, color="rgb", quality=self._crops.quality)
        return names

    def _aligned(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        if face.landmarks is not None:
            return align(image, face.landmarks, self._template)
        wanted = self._template.height, self._template.width
        if image.shape[:2] != wanted:
            raise SphereFaceError(
                f"a crop of {image.shape[1]} x {image.shape[0]} pixels without landmarks",
                expected=f"{wanted[1]} x {wanted[0]}, the template's size",
            )
        return image


def _read(path: str, source: _Source) -> NDArray[np.uint8]:
    """Return a picture as RGB, or grey as (H, W) if that is what it is, as Matlab's imread."""
    options = source._asdict()
    image = read_image(path, color="unchanged", **options)
    if image.dtype == np.uint8 and image.shape[2] == 1:
        return image[:, :, 0]
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.ascontiguousarray(image[:, :, ::-1])
    return read_image(path, color="rgb", **options)
