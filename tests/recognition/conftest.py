from __future__ import annotations

import numpy as np
import pytest

from sphereface.faces import Embedder, Face, FaceAnalyzer, find_template
from sphereface.faces.detectors import OpenDetector

COLOURS = {"Ann": (250, 20, 20), "Bob": (20, 250, 20), "Cléo": (20, 20, 250)}
SIZE = 40


def spots(image):
    """Find squares of a plain colour on black: a detector whose answers are known."""
    faces = []
    for colour in {tuple(c) for c in image.reshape(-1, 3)} - {(0, 0, 0)}:
        rows, columns = np.nonzero((image == colour).all(axis=2))
        if len(rows) < SIZE:
            continue
        x, y = columns.min(), rows.min()
        box = np.array([x, y, columns.max(), rows.max()], float)
        points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
        faces.append(Face(box, 0.9, points * SIZE + (x, y)))
    return sorted(faces, key=lambda face: tuple(face.box))


def mean_colour(crops):
    """Embed a crop as the colour in its middle."""
    return crops[:, 40:70, 35:60].reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32)


@pytest.fixture
def colours():
    return COLOURS


@pytest.fixture
def embedder():
    return Embedder("colours", "c0", find_template("112x96"), mean_colour)


@pytest.fixture
def analyzer(embedder):
    detector = OpenDetector(lambda images: [spots(i) for i in images], {}, {}, 8)
    return FaceAnalyzer(detector, embedder)


@pytest.fixture
def picture():
    """picture((x, name or colour), ...) is a picture with squares of people's colours."""

    def make(*places, size=(80, 200)):
        image = np.zeros((*size, 3), np.uint8)
        for x, who in places:
            image[20 : 20 + SIZE, x : x + SIZE] = COLOURS.get(who, who)
        return image

    return make
