import numpy as np
import pytest

from reference import mtcnn as reference
from sphereface.faces.mtcnn import crops
from sphereface.faces.mtcnn.crops import cut

BOXES = {
    "inside": (5, 7, 34, 36),
    "growing": (10, 10, 22, 22),
    "not square": (3, 2, 26, 26),
    "left and top": (-12, -5, 20, 27),
    "right and bottom": (30, 20, 75, 65),
    "around all": (-30, -30, 90, 90),
    "outside": (100, 100, 130, 130),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("size", [24, 48])
def test_equals_float64(drawing, box, size):
    image = drawing(40, 50)
    got = np.empty((size, size, 3), np.float32)
    cut(image, box, got)
    expected = reference.cut(image, box, size) * (1 + 1e-6)
    np.testing.assert_allclose(got.swapaxes(0, 1), expected, atol=1e-4)
    assert expected.any() == (box != BOXES["outside"])


def test_columns_at_a_time(drawing, monkeypatch):
    image = drawing(40, 50)
    box = (-3, 2, 47, 52)
    whole, parts = np.empty((2, 24, 24, 3), np.float32)
    cut(image, box, whole)
    monkeypatch.setattr(crops, "_COLUMNS", 300)
    cut(image, box, parts)
    np.testing.assert_allclose(parts, whole, atol=1e-4)
