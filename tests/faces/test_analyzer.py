from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import Embedder, Face, FaceAnalyzer, align, find_template
from sphereface.faces.detectors import OpenDetector

POINTS = np.array([[40.0, 50], [70, 52], [55, 70], [43, 85], [68, 86]])


def flat(crops):
    return crops.reshape(len(crops), -1)[:, :50].astype(np.float32) + 1


@pytest.fixture
def embedder():
    return Embedder("flat", "f", find_template("112x96"), flat)


def detector(*faces, smallest=10):
    return OpenDetector(lambda images: [list(faces) for _ in images], {}, {}, smallest)


def test_faces_with_crops_and_embeddings(embedder, rng):
    image = rng.integers(0, 256, (120, 110, 3)).astype(np.uint8)
    found = [Face(np.array([30.0, 30, 80, 95]), 0.9, POINTS),
             Face(np.array([30.0, 30, 80, 95]), 0.8, POINTS + 3)]  # fmt: skip
    faces = FaceAnalyzer(detector(*found), embedder).get(image)
    for face, given in zip(faces, found, strict=True):
        np.testing.assert_array_equal(face.crop, align(image, given.landmarks, "112x96"))
        row = flat(face.crop[None])[0].astype(np.float64)
        np.testing.assert_allclose(face.embedding, row / np.linalg.norm(row), rtol=1e-6)
        assert (face.score, face.box is given.box) == (given.score, True)


def test_several_pictures(embedder, rng):
    images = [rng.integers(0, 256, (120, 110, 3)).astype(np.uint8) for _ in range(3)]
    images[1] = images[1][:5, :5]  # too small for a face
    analyzer = FaceAnalyzer(detector(Face(np.zeros(4), 1.0, POINTS)), embedder)
    together = analyzer.get_many(images)
    assert [len(faces) for faces in together] == [1, 0, 1]
    np.testing.assert_array_equal(together[2][0].embedding, analyzer.get(images[2])[0].embedding)
    assert FaceAnalyzer(detector(), embedder).get_many(images) == [[], [], []]


def test_crops_as_they_are(embedder, rng):
    crop = rng.integers(0, 256, (112, 96, 3)).astype(np.uint8)
    analyzer = FaceAnalyzer("none", embedder)
    np.testing.assert_array_equal(analyzer.get(crop)[0].crop, crop)
    with pytest.raises(SphereFaceError, match=r"without landmarks in a picture of 96x96"):
        analyzer.get(crop[:96])
