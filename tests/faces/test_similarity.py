import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import TEMPLATES, fit_similarity

# Printed in the documentation comment of Matlab's cp2tform: u, v -> x, y.
U, V = (0, 6, -2), (0, 3, 5)
X, Y = (-1, 0, 4), (-1, -10, 4)
MATLAB = [[-0.0764, -1.6190], [1.6190, -0.0764], [-3.2156, 0.0290]]


def columns(*values):
    return np.array(values, float).T


def test_is_matlabs():
    matrix = fit_similarity(columns(U, V), columns(X, Y))
    np.testing.assert_allclose(matrix.T, MATLAB, atol=5e-5)


def least_squares(source, target):
    """scale-cos a, scale-sin b, shifts of [a -b; b a] by numpy's general solver."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def homogeneous(matrix):
    return np.vstack([matrix, [0, 0, 1]])


@pytest.mark.parametrize("points", range(5))
def test_equals_a_general_solver(rng, points):
    template = TEMPLATES["112x96"].points
    image = template * rng.uniform(0.5, 3) + rng.normal(scale=6, size=(5, 2)) + rng.uniform(0, 300)
    inverse = np.linalg.inv(homogeneous(least_squares(template, image)))[:2]
    np.testing.assert_allclose(fit_similarity(image, template), inverse, atol=1e-9)
    forward = least_squares(image, template)
    np.testing.assert_allclose(fit_similarity(image, template, "forward"), forward, atol=1e-9)
    assert np.abs(inverse - forward).max() > 1e-3


def test_fits_differ_by_the_squared_correlation(rng):
    template = TEMPLATES["112x96"].points
    image = template @ [[0.9, 0.4], [-0.4, 0.9]] + rng.normal(scale=4, size=(5, 2))
    z, w = (points @ [1, 1j] for points in (image, template))
    z, w = z - z.mean(), w - w.mean()
    correlation = abs(np.vdot(z, w)) / np.linalg.norm(z) / np.linalg.norm(w)
    scales = [
        np.sqrt(np.linalg.det(fit_similarity(image, template, fit)[:, :2]))
        for fit in ("forward", "inverse")
    ]
    assert scales[0] / scales[1] == pytest.approx(correlation**2)
    assert correlation < 0.999


def test_mirrored_points_give_a_reflection():
    template = TEMPLATES["112x96"].points
    mirrored = template * (-1, 1) + (96, 0)
    matrix = fit_similarity(mirrored, template)
    np.testing.assert_allclose(matrix, [[-1, 0, 96], [0, 1, 0]], atol=1e-9)
    turned = fit_similarity(mirrored, template, "forward")
    assert np.linalg.det(turned[:, :2]) > 0


def test_recorded_transforms(shared, recorded_faces):
    lines = shared("golden/align/transforms.txt").read_text().split("\n")
    seen = 0
    for name, index, *values in (line.split() for line in lines if line):
        _, _, landmarks = recorded_faces[name][int(index)]
        matrix = fit_similarity(landmarks, TEMPLATES["112x96"].points)
        np.testing.assert_allclose(matrix.T.ravel(), np.array(values, float), atol=1e-6)
        seen += 1
    assert seen == 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[1, 2], [1, 2]], "all points are the same"),
        ([[1, 2], [np.nan, 2]], "points hold NaN"),
        ([1, 2, 3], r"points of shape \(3,\)"),
        ([[1, 2], [3, 4], [5, 6]], "3 points for a template of 2"),
        ([[1, 1], [-1, 1], [-1, -1], [1, -1]], "4 points"),
    ],
)
def test_bad_points(points, message):
    with pytest.raises(SphereFaceError, match=message):
        fit_similarity(points, [[0, 0], [1, 1]])


def test_points_unrelated_to_the_template():
    square = [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    with pytest.raises(SphereFaceError, match="nothing in common"):
        fit_similarity(square, [[1, 0], [-1, 0], [1, 0], [-1, 0]])
