"""Pictures of known people into a gallery, and pairs of faces for a threshold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.pair_lists import read_pairs
from sphereface.faces import Face, FaceAnalyzer
from sphereface.faces.selection import select
from sphereface.images import IMAGE_SUFFIXES, list_images, read_image
from sphereface.recognition.calibration import Threshold, calibrate
from sphereface.recognition.gallery import Gallery

__all__ = ["Enrolled", "calibrate_folder", "calibrate_pairs", "enroll", "one_face", "people_of"]

_BATCH = 8
_PAIR = 2
_NO_PICTURE = "a folder without a picture that can be read"


@dataclass
class Enrolled:
    """What became of the pictures: a gallery, and who and what is left out, with the reason."""

    gallery: Gallery
    failures: dict[str, str] = field(default_factory=dict)


def people_of(folder: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return person -> pictures, of a folder that holds a folder or a picture of each person.

    A person whose folder is empty, or cannot be read, has none.

    Raises
    ------
    SphereFaceError
        There is no picture.
    """
    root = Path(folder)
    people: dict[str, list[str]] = {}
    for entry in sorted(root.iterdir()) if root.is_dir() else []:
        if entry.is_dir():
            people.setdefault(entry.name, []).extend(_pictures_in(entry))
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            people.setdefault(entry.stem, []).append(str(entry))
    if not any(people.values()):
        raise SphereFaceError(
            "no people", where=os.fspath(folder), expected="a folder or a picture for each person"
        )
    return people


def _pictures_in(folder: Path) -> list[str]:
    try:
        return [file.path for file in list_images([folder])]
    except SphereFaceError:
        return []


def one_face(analyzer: FaceAnalyzer, image: NDArray[np.uint8], how: str = "largest") -> Face | None:
    """Return the face of a picture that is meant, or None if there is none."""
    faces = select(analyzer.get(image), how, *image.shape[:2])
    return faces[0] if faces else None


def enroll(
    people: dict[str, list[str]],
    analyzer: FaceAnalyzer,
    *,
    how: str = "largest",
    on_picture: Callable[[], object] = lambda: None,
) -> Enrolled:
    """Return the gallery of people.

    Parameters
    ----------
    people : dict of str to list of str
        Person -> pictures; who has none is left out.
    analyzer : FaceAnalyzer
    how : str
        Which of several faces of a picture, see `sphereface.faces.selection`.
    on_picture : callable
        Called after each picture.

    Raises
    ------
    SphereFaceError
        No picture has a face.
    """
    names: list[str] = []
    sources: list[str] = []
    rows: list[NDArray[np.float32]] = []
    failures: dict[str, str] = {}
    pictures = [(name, path) for name, paths in people.items() for path in paths]
    for name, path, face in _faces(pictures, analyzer, how, failures, on_picture):
        names.append(name)
        sources.append(path)
        rows.append(face)
    failures |= {name: _NO_PICTURE for name, paths in people.items() if not paths}
    if not rows:
        told = "; ".join(f"{path}: {why}" for path, why in list(failures.items())[:3])
        raise SphereFaceError(f"no face in {len(pictures)} pictures ({told})", where="enroll")
    embedder = analyzer.embedder
    return Enrolled(
        Gallery(names, np.stack(rows), sources, embedder=embedder.identity, label=embedder.label),
        failures,
    )


def calibrate_folder(
    folder: str | os.PathLike[str],
    analyzer: FaceAnalyzer,
    far: float,
    *,
    on_picture: Callable[[], object] = lambda: None,
) -> tuple[Threshold, dict[str, str]]:
    """Return the threshold of all pairs of pictures of people, and what failed.

    Raises
    ------
    SphereFaceError
        As `calibrate`; or nobody has two pictures.
    """
    done = enroll(people_of(folder), analyzer, on_picture=on_picture)
    gallery = done.gallery
    number = {name: index for index, name in enumerate(gallery.people)}
    label = np.array([number[name] for name in gallery.names])
    left, right = np.triu_indices(len(label), 1)
    scores = (gallery.embeddings @ gallery.embeddings.T)[left, right]
    same = label[left] == label[right]
    return _calibrated(scores, same, far, analyzer, os.fspath(folder)), done.failures


def calibrate_pairs(
    pairs: str | os.PathLike[str],
    root: str | os.PathLike[str],
    analyzer: FaceAnalyzer,
    far: float,
    *,
    on_picture: Callable[[], object] = lambda: None,
) -> tuple[Threshold, dict[str, str]]:
    """Return the threshold of a list of pairs; pictures without a face leave it with their pairs.

    Raises
    ------
    SphereFaceError
        As `calibrate`; or a picture of the list is not there.
    """
    listed = read_pairs(pairs)
    by_key = {str(Path(file.name).with_suffix("")): file.path for file in list_images([root])}
    keys = [
        [str(Path(name).with_suffix("")) for name in side] for side in (listed.left, listed.right)
    ]
    wanted = sorted({key for side in keys for key in side})
    missing = [key for key in wanted if key not in by_key]
    if missing:
        raise SphereFaceError(
            f'no picture "{missing[0]}" and {len(missing) - 1} more', where=os.fspath(root),
            expected=f"the {len(wanted)} pictures of {os.fspath(pairs)}",
        )  # fmt: skip
    failures: dict[str, str] = {}
    pictures = [(key, by_key[key]) for key in wanted]
    rows = {key: row for key, _, row in _faces(pictures, analyzer, "largest", failures, on_picture)}
    there = [left in rows and right in rows for left, right in zip(*keys, strict=True)]
    kept = np.flatnonzero(there)
    scores = [float(rows[keys[0][i]] @ rows[keys[1][i]]) for i in kept]
    same = np.asarray(listed.same)[kept]
    return _calibrated(np.array(scores), same, far, analyzer, os.fspath(pairs)), failures


def _calibrated(
    scores: NDArray[np.float64], same: NDArray[np.bool_], far: float, analyzer: FaceAnalyzer,
    source: str,
) -> Threshold:  # fmt: skip
    if same.sum() < 1 or same.sum() == len(same):
        raise SphereFaceError(
            f"{int(same.sum())} pairs of one person and {int((~same).sum())} of two",
            where=source,
            expected="some of both",
        )
    return calibrate(scores, same, far, embedder=analyzer.embedder.identity, source=source)


def _faces(
    pictures: Iterable[tuple[str, str]],
    analyzer: FaceAnalyzer,
    how: str,
    failures: dict[str, str],
    on_picture: Callable[[], object],
) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Yield name, path and embedding of the pictures with a face."""
    for name, path in pictures:
        try:
            face = one_face(analyzer, read_image(path, color="rgb"), how)
        except SphereFaceError as error:
            failures[path] = error.problem
        else:
            if face is None or face.embedding is None:
                failures[path] = "no face found"
            else:
                yield name, path, face.embedding
        on_picture()
