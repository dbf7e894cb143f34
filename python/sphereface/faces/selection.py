"""Which of a picture's faces is meant.

Source: face_align_demo.m of SphereFace takes the face whose box's centre is nearest to the
picture's, the first of equals, whatever its size (``central``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sphereface.errors import SphereFaceError, nearest
from sphereface.faces.face import Face

__all__ = ["SELECTIONS", "select"]

Size = tuple[float, float]


def select(faces: Sequence[Face], how: str, height: float, width: float) -> list[Face]:
    """Return the chosen faces of a picture.

    Parameters
    ----------
    faces : sequence of Face
        Best first.
    how : {"central", "largest", "best", "all"}
    height, width : float
        Of the picture.
    """
    if how not in SELECTIONS:
        raise SphereFaceError(
            f'selection "{how}"', expected=", ".join(SELECTIONS), fix=nearest(how, SELECTIONS)
        )
    return SELECTIONS[how](faces, (height, width)) if faces else []


def _distance(face: Face, size: Size) -> float:
    # The original measures from (height / 2, width / 2) in 1-based pixels.
    x, y = (face.box[:2] + face.box[2:]) / 2 + 1
    return float((x - size[1] / 2) ** 2 + (y - size[0] / 2) ** 2)


def _area(face: Face) -> float:
    width, height = face.box[2:] - face.box[:2] + 1
    return float(width * height)


def _central(faces: Sequence[Face], size: Size) -> list[Face]:
    return [min(faces, key=lambda face: _distance(face, size))]


def _largest(faces: Sequence[Face], _: Size) -> list[Face]:
    return [max(faces, key=_area)]


def _best(faces: Sequence[Face], _: Size) -> list[Face]:
    return [max(faces, key=lambda face: face.score)]


def _all(faces: Sequence[Face], _: Size) -> list[Face]:
    return list(faces)


SELECTIONS: dict[str, Callable[[Sequence[Face], Size], list[Face]]] = {
    "central": _central,
    "largest": _largest,
    "best": _best,
    "all": _all,
}
