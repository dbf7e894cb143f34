import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import TEMPLATES, find_template

SPHEREFACE = [
    [30.2946, 51.6963],
    [65.5318, 51.5014],
    [48.0252, 71.7366],
    [33.5493, 92.3655],
    [62.7299, 92.2041],
]
# insightface's arcface_dst.
ARCFACE = [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
]


def test_points():
    np.testing.assert_allclose(TEMPLATES["112x96"].points, SPHEREFACE)
    np.testing.assert_allclose(TEMPLATES["112x112"].points, ARCFACE)
    np.testing.assert_allclose(TEMPLATES["arcface-112x112"].pixels, ARCFACE)
    np.testing.assert_allclose(TEMPLATES["112x112"].pixels, np.subtract(ARCFACE, 1))
    np.testing.assert_allclose(TEMPLATES["128x128"].points, np.add(SPHEREFACE, [16, 8]))
    np.testing.assert_allclose(TEMPLATES["arcface-128x128"].points, np.add(ARCFACE, [8, 0]))
    np.testing.assert_allclose(TEMPLATES["arcface-224x224"].points, np.multiply(ARCFACE, 2))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_whole(name):
    template = find_template(name)
    assert template.name == name
    assert name.endswith(f"{template.height}x{template.width}")
    assert (template.fit, template.base) in (("inverse", 1), ("forward", 0))
    assert (template.pixels > 0).all()
    assert (template.pixels < (template.width, template.height)).all()
    with pytest.raises(ValueError, match="read-only"):
        template.points[0] = 0


def test_unknown_template():
    with pytest.raises(SphereFaceError, match='did you mean "112x96"'):
        find_template("112X96 ")
