import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import TEMPLATES, align


@pytest.mark.parametrize("name", TEMPLATES)
def test_landmarks_land_on_the_template(name):
    """White dots where the landmarks are come out where the template has them."""
    template = TEMPLATES[name]
    turn = np.array([[1.5, 0.6], [-0.6, 1.5]])
    landmarks = template.pixels @ turn.T + (40, 120)
    image = np.zeros((520, 520, 3), np.uint8)
    for x, y in np.rint(landmarks).astype(int):
        cv2.circle(image, (int(x), int(y)), 3, (255, 255, 255), -1)
    crop = align(image, landmarks, name)
    assert crop.shape == (template.height, template.width, 3)
    for x, y in template.pixels:
        window = crop[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5, 0].astype(float)
        rows, columns = np.mgrid[-4:5, -4:5]
        centre = np.array([(window * columns).sum(), (window * rows).sum()]) / window.sum()
        assert np.abs(centre - (x - round(x), y - round(y))).max() < 0.6


@pytest.mark.parametrize("name", ["astronaut.png", "mtcnn_test1.jpg"])
def test_recorded_crops(name, shared, photo, recorded_faces):
    for index, (_, _, landmarks) in enumerate(recorded_faces[name]):
        expected = cv2.imread(str(shared(f"golden/align/{name}.{index}.png")))[:, :, ::-1]
        crop = align(photo(name), landmarks - 1, "112x96")
        levels = 1 if name.endswith(".png") else 3  # JPEG decoders differ
        assert np.abs(crop.astype(int) - expected).max() <= levels


def test_bad_landmarks():
    image = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(SphereFaceError, match=r"landmarks of shape \(2, 5\)"):
        align(image, np.zeros((2, 5)))
    with pytest.raises(SphereFaceError, match="all points are the same"):
        align(image, np.zeros((5, 2)))
    with pytest.raises(SphereFaceError, match="image of shape"):
        align(image / 255, np.eye(5)[:, :2])
