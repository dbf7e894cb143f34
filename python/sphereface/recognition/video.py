"""Frames of a video file or camera, and a video file of frames; by OpenCV, without sound."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import open_regular

__all__ = ["VIDEO_SUFFIXES", "Frame", "Video", "VideoFile", "is_video"]

_SUFFIXES = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv"

VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
_CAMERA = "camera:"
_CAMERA_RATE = 25.0  # for the file that is written, where a camera does not tell its own
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


class Frame(NamedTuple):
    """A picture of a video: its number from 0, its time in seconds, RGB (H, W, 3)."""

    number: int
    seconds: float
    image: NDArray[np.uint8]


def is_video(name: str) -> bool:
    """Tell whether a name is a video file's, or ``camera:0``."""
    return name.startswith(_CAMERA) or Path(name).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """A video that is read; a context manager that iterates over its frames.

    Parameters
    ----------
    name : str
        A file, or ``camera:0``.

    Attributes
    ----------
    rate : float
        Frames a second.
    size : (int, int)
        Height and width.
    frames : int
        How many, as the file says; 0 for a camera.

    Raises
    ------
    SphereFaceError
        It cannot be opened, has no frame or no rate.
    """

    def __init__(self, name: str) -> None:
        cv2 = require("cv2", "faces")
        self.name, self._camera = name, name.startswith(_CAMERA)
        if self._camera:
            number = name.removeprefix(_CAMERA)
            if not number.isdecimal():
                raise SphereFaceError(f'"{name}"', expected="camera:0, camera:1, ...")
            self._capture: Any = cv2.VideoCapture(int(number))
        else:
            open_regular(name, "video").close()
            self._capture = cv2.VideoCapture(name)
        first: Any = None
        done = self._capture.isOpened()
        if done:
            done, first = self._capture.read()
        rate = float(self._capture.get(cv2.CAP_PROP_FPS)) if done else 0.0
        if self._camera and not rate > 0:
            rate = _CAMERA_RATE
        if not done or not 0 < rate < np.inf:
            self._capture.release()
            problem = "no frame can be read" if not done else f"{rate:g} frames a second"
            if self._camera:
                raise SphereFaceError(
                    problem, where=name, expected="a camera that nobody else uses",
                    fix="look with another program whether it is there",
                )  # fmt: skip
            raise SphereFaceError(
                problem, where=name, expected="a video file",
                fix="OpenCV's own FFmpeg reads it; convert it to MP4",
            )  # fmt: skip
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = 0 if self._camera or not count > 0 else int(count)
        self.rate, self.size = rate, (int(first.shape[0]), int(first.shape[1]))
        self._first = first

    def __iter__(self) -> Iterator[Frame]:
        began, number, image = time.monotonic(), 0, self._first
        while image is not None:
            seconds = time.monotonic() - began if self._camera else number / self.rate
            yield Frame(number, seconds, np.ascontiguousarray(image[:, :, ::-1]))
            number += 1
            done, read = self._capture.read()
            image = read if done else None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *raised: object) -> None:
        self._capture.release()


class VideoFile:
    """A video that is written; what was written stays, whatever ends the writing.

    Parameters
    ----------
    path : path
        ``.mp4`` or ``.avi``.
    rate : float
        Frames a second.
    size : (int, int)
        Height and width.
    """

    def __init__(self, path: str | os.PathLike[str], rate: float, size: tuple[int, int]) -> None:
        cv2 = require("cv2", "faces")
        self.path = Path(path)
        codec = _CODECS.get(self.path.suffix.lower())
        if codec is None:
            raise SphereFaceError(
                f'"{self.path.suffix}"', where=str(path), expected=" or ".join(_CODECS)
            )
        self._partial = self.path.with_name(f".{self.path.name}.partial{self.path.suffix}")
        fourcc = cv2.VideoWriter_fourcc(*codec)
        self._writer: Any = cv2.VideoWriter(str(self._partial), fourcc, rate, (size[1], size[0]))
        if not self._writer.isOpened():
            raise SphereFaceError(
                f"OpenCV cannot write {codec}", where=str(path), expected="a folder to write into"
            )

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append an RGB frame."""
        self._writer.write(np.ascontiguousarray(image[:, :, ::-1]))

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.release()
        with contextlib.suppress(FileNotFoundError):
            self._partial.replace(self.path)
