from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import Face
from sphereface.recognition import Tracks


def face(x, direction):
    row = np.array(direction, np.float32)
    return Face(np.array([x, 0.0, x + 20, 20]), 1.0, None, embedding=row / np.linalg.norm(row))


def test_without_weight_nothing_is_smoothed():
    tracks = Tracks(0)
    for direction in ([1, 0], [0, 1]):
        ((number, row),) = tracks([face(0, direction)])
        assert number == 0
        np.testing.assert_allclose(row, direction)


def test_a_mean_that_forgets():
    tracks = Tracks(0.75)
    tracks([face(0, [1, 0])])
    ((_, row),) = tracks([face(2, [0, 1])])
    expected = np.array([0.75, 0.25])
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), rtol=1e-6)


def test_faces_that_move_keep_their_tracks():
    tracks = Tracks(0.5)
    assert [n for n, _ in tracks([face(0, [1, 0]), face(100, [0, 1])])] == [0, 1]
    assert [n for n, _ in tracks([face(95, [0, 1]), face(5, [1, 0])])] == [1, 0]
    assert [n for n, _ in tracks([face(300, [1, 1])])] == [2]


def test_a_track_ends():
    tracks = Tracks(0.5, patience=2)
    tracks([face(0, [1, 0])])
    for _ in range(2):
        tracks([])
    assert [n for n, _ in tracks([face(0, [1, 0])])] == [1]
    with pytest.raises(SphereFaceError, match="smoothing 1"):
        Tracks(1)
