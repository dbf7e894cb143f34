"""Faces of pictures and videos to names, in drawn pictures and lines of JSON.

A line a picture or frame, as ``sphereface detect`` has them (1-based pixels), each face with
``name`` (null for a stranger), ``cosine`` and ``nearest``, whoever that is; of a video also
``frame``, ``seconds`` and the number of the face's ``track``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import ExistsError, SphereFaceError
from sphereface.faces import Face, FaceAnalyzer
from sphereface.faces.records import face_record
from sphereface.images import ImageFile, read_image, write_image
from sphereface.progress import Progress
from sphereface.recognition.calibration import Threshold
from sphereface.recognition.drawing import draw_people
from sphereface.recognition.gallery import Gallery, Match
from sphereface.recognition.tracks import Tracks
from sphereface.recognition.video import Video, VideoFile

__all__ = ["RESULTS", "Identified", "Identifier", "Person", "identify_pictures", "identify_video"]

RESULTS = "identities.jsonl"

_WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A face and who it is.

    Attributes
    ----------
    face : Face
    match : Match
        The nearest person of the gallery.
    known : bool
        The cosine reaches the threshold.
    track : int or None
        Of a video.
    """

    face: Face
    match: Match
    known: bool
    track: int | None = None

    @property
    def name(self) -> str | None:
        """The person, None for a stranger."""
        return self.match.name if self.known else None

    def to_dict(self) -> dict[str, Any]:
        """Return the line's entry."""
        told = {
            **face_record(self.face),
            "name": self.name,
            "cosine": round(self.match.score, 6),
            "nearest": self.match.name,
        }
        return told if self.track is None else {**told, "track": self.track}


@dataclass
class Identified:
    """What was found.

    Attributes
    ----------
    pictures, faces, strangers : int
        Pictures or frames that were looked at, the faces in them, and those of nobody enrolled.
    seconds : float
        Of a video: how far it was seen.
    failures : dict of str to str
        Pictures that could not be read, and why.
    """

    pictures: int = 0
    faces: int = 0
    strangers: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def count(self, people: Sequence[Person]) -> None:
        """Count a picture."""
        self.pictures += 1
        self.faces += len(people)
        self.strangers += sum(not person.known for person in people)


class Identifier:
    """Names the faces of pictures.

    Parameters
    ----------
    analyzer : FaceAnalyzer
    gallery : Gallery
        Of the same embedder.
    threshold : Threshold

    Raises
    ------
    SphereFaceError
        Gallery or threshold are another model's.
    """

    def __init__(self, analyzer: FaceAnalyzer, gallery: Gallery, threshold: Threshold) -> None:
        embedder = analyzer.embedder
        gallery.check(embedder.identity, embedder.label)
        threshold.check(embedder.identity)
        self.analyzer, self.gallery, self.threshold = analyzer, gallery, threshold

    def __call__(self, image: NDArray[np.uint8], tracks: Tracks | None = None) -> list[Person]:
        """Return who is in an RGB picture; with `tracks`, the next frame of their video."""
        faces = self.analyzer.get(image)
        if not faces:
            if tracks is not None:
                tracks([])
            return []
        numbers: Sequence[int | None] = [None] * len(faces)
        rows = [face.embedding for face in faces]
        if tracks is not None:
            numbers, rows = zip(*tracks(faces), strict=True)  # type: ignore[assignment]
        matches = self.gallery.search(np.stack(rows))  # type: ignore[arg-type]
        return [
            Person(face, match, match.score >= self.threshold.value, number)
            for face, match, number in zip(faces, matches, numbers, strict=True)
        ]


def identify_pictures(
    files: Sequence[ImageFile],
    identifier: Identifier,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Identified:
    """Write every picture with its people drawn, and the lines, into a folder.

    A picture that cannot be read gets a line with its reason.

    Raises
    ------
    SphereFaceError
        What would be written is there, and nobody said that it may go; or it is one of `files`.
    """
    done, folder = Identified(), Path(output)
    targets = [folder / name for name in _names(files)]
    _check_targets([folder / RESULTS, *targets], [file.path for file in files], overwrite)
    with _results(folder) as lines, Progress(len(files), "identify") as progress:
        for file, target in zip(files, targets, strict=True):
            line: dict[str, Any] = {"file": file.name}
            try:
                image = read_image(file.path, color="rgb")
                people = identifier(image)
            except SphereFaceError as error:
                line.update(status="unreadable", reason=error.problem, faces=[])
                done.failures[file.path] = error.problem
            else:
                done.count(people)
                line.update(status="ok" if people else "no_face")
                line["faces"] = [person.to_dict() for person in people]
                target.parent.mkdir(parents=True, exist_ok=True)
                write_image(target, draw_people(image, people), color="rgb")
            lines.write(json.dumps(line) + "\n")
            progress.update()
    return done


def identify_video(
    name: str,
    identifier: Identifier,
    output: str | os.PathLike[str],
    *,
    every: int = 1,
    smooth: float = 0.0,
    overwrite: bool = False,
) -> Identified:
    """Write a video with its people drawn, and the lines, into a folder.

    Parameters
    ----------
    name : str
        A video file, or ``camera:0``; Ctrl-C ends it with what there is.
    identifier : Identifier
    output : path
        The folder.
    every : int
        Look at each frame of that many; those between show what was found last.
    smooth : float
        Weight of the past in a face's embedding, 0 to less than 1.
    overwrite : bool
        Replace results in the folder.

    Raises
    ------
    SphereFaceError
        The video cannot be read; what would be written is there, and nobody said that it may go; or
        it is the video that is read.
    """
    if every < 1:
        raise SphereFaceError(f"every {every}", expected="1 or more")
    done, tracks, folder = Identified(), Tracks(smooth), Path(output)
    target = folder / f"{Path(name).stem.replace(':', '_')}.mp4"
    people: list[Person] = []
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(Video(name))
        _check_targets([folder / RESULTS, target], [name], overwrite)
        lines = stack.enter_context(_results(folder))
        drawn = stack.enter_context(VideoFile(target, video.rate, video.size))
        progress = stack.enter_context(Progress(video.frames, "identify"))
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        for frame in video:
            if frame.number % every == 0:
                people = identifier(frame.image, tracks)
                done.count(people)
                line = {"frame": frame.number, "seconds": round(frame.seconds, 4)}
                faces = [person.to_dict() for person in people]
                lines.write(json.dumps({**line, "faces": faces}) + "\n")
            drawn.write(draw_people(frame.image, people))
            done.seconds = frame.seconds
            progress.update()
    return done


def _written(name: str) -> str:
    """Return the suffix of the picture that is written for one of that name."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in _WRITTEN else ".png"


def _names(files: Sequence[ImageFile]) -> list[str]:
    """Return names of pictures inside the output folder, each one's own."""
    names = [os.path.normpath(file.name).lstrip("/") for file in files]
    names = [str(Path(name).with_suffix(_written(name))) for name in names]
    if any(name.startswith("..") for name in names) or len(set(names)) < len(names):
        return [f"{number:06d}_{Path(name).name}" for number, name in enumerate(names)]
    return names


def _check_targets(targets: Sequence[Path], inputs: Iterable[str], overwrite: bool) -> None:
    """Raise before the work if a file that the user has would be replaced."""
    there = [target for target in targets if target.exists()]
    if not there:
        return
    read = {_identity(Path(name)) for name in inputs if Path(name).exists()}  # not a camera
    for target in there:
        if _identity(target) in read:
            raise SphereFaceError(
                "the output is an input", where=str(target), fix="write into another folder"
            )
        if not overwrite:
            raise ExistsError(str(target))


def _identity(path: Path) -> tuple[int, int]:
    """Return what two names of one file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _results(folder: Path) -> Iterator[TextIO]:
    """Open the lines; they get their name when the block ends, however it ends."""
    path = folder / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{RESULTS}.partial"
    try:
        with partial.open("w", encoding="utf-8") as stream:
            yield stream
    finally:
        if partial.exists():
            partial.replace(path)
