import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces.face import Face
from sphereface.faces.selection import select


def face(box, score):
    return Face(np.array(box, float), score, None)


BEST = face([0, 0, 9, 9], 0.99)
LARGEST = face([50, 0, 99, 30], 0.95)
CENTRAL = face([40, 40, 59, 59], 0.91)
FACES = [BEST, LARGEST, CENTRAL]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("best", [BEST]), ("largest", [LARGEST]), ("central", [CENTRAL]), ("all", FACES)],
)
def test_selections(how, expected):
    assert select(FACES, how, 100, 100) == expected
    assert select([], how, 100, 100) == []


def test_central_is_the_originals():
    """Distance of the 1-based centre to (width / 2, height / 2); the first of equals."""
    boxes = np.array([[10.0, 20, 30, 40], [61, 61, 81, 81], [21, 21, 41, 41]])  # 1-based
    distance = [
        ((b[0] + b[2]) / 2 - 101 / 2) ** 2 + ((b[1] + b[3]) / 2 - 103 / 2) ** 2 for b in boxes
    ]
    faces = [face(box - 1, 0.9) for box in boxes]
    assert select(faces, "central", 103, 101) == [faces[int(np.argmin(distance))]]
    mirrored = [face([0, 0, 10, 10], 0.9), face([89, 0, 99, 10], 0.8)]
    # 1-based centres 6 and 95 are 44 and 45 pixels from 50: the half pixel decides.
    assert select(mirrored, "central", 100, 100) == [mirrored[0]]


def test_unknown_selection():
    with pytest.raises(SphereFaceError, match='did you mean "largest"'):
        select([], "largst", 1, 1)
