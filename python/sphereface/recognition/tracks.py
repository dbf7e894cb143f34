"""Faces of a video followed from frame to frame, so that a name does not flicker.

A face goes on a track whose last box it overlaps most; the track's embedding is a mean that forgets
(exponentially), and what is recognised is that mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.faces import Face

__all__ = ["Tracks"]

_OVERLAP = 0.3  # intersection over union from which two boxes are one face's


@dataclass
class _Track:
    number: int
    box: NDArray[np.float64]
    mean: NDArray[np.float64]
    seen: int


class Tracks:
    """Smooths embeddings over the frames of one video.

    Parameters
    ----------
    weight : float
        Of the past in the mean: 0 is no smoothing, near 1 is slow.
    patience : int
        Frames for which a face may be missing before its track ends.
    """

    def __init__(self, weight: float = 0.8, patience: int = 10) -> None:
        if not 0 <= weight < 1:
            raise SphereFaceError(f"smoothing {weight:g}", expected="0 or more, less than 1")
        self._weight, self._patience = weight, patience
        self._tracks: list[_Track] = []
        self._frame, self._next = 0, 0

    def __call__(self, faces: Sequence[Face]) -> list[tuple[int, NDArray[np.float32]]]:
        """Return the number of each face's track and its embedding of length 1, a frame's turn."""
        self._frame += 1
        self._tracks = [t for t in self._tracks if self._frame - t.seen <= self._patience]
        free = list(self._tracks)
        result: list[tuple[int, NDArray[np.float32]]] = []
        for face in faces:
            assert face.embedding is not None
            track = max(free, key=lambda track: _overlap(track.box, face.box), default=None)
            if track is None or _overlap(track.box, face.box) < _OVERLAP:
                track = _Track(self._next, face.box, face.embedding.astype(float), self._frame)
                self._next += 1
                self._tracks.append(track)
            else:
                free.remove(track)
                track.mean = self._weight * track.mean + (1 - self._weight) * face.embedding
                track.box, track.seen = face.box, self._frame
            length = float(np.linalg.norm(track.mean)) or 1.0
            result.append((track.number, (track.mean / length).astype(np.float32)))
        return result


def _overlap(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    width, height = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [float(np.prod(box[2:] - box[:2] + 1)) for box in (one, two)]
    common = float(width * height)
    return common / (sum(areas) - common)
