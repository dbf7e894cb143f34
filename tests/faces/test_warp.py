import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import warp


def bilinear(image, matrix, height, width):
    """imtransform pixel by pixel in float64: 0 outside, halves rounded up."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    out = np.zeros((height, width, image.shape[2]))
    for y in range(height):
        for x in range(width):
            u, v = np.linalg.solve(linear, np.array([x, y]) - shift)
            for row in (int(np.floor(v)), int(np.floor(v)) + 1):
                for column in (int(np.floor(u)), int(np.floor(u)) + 1):
                    if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                        share = (1 - abs(v - row)) * (1 - abs(u - column))
                        out[y, x] += share * image[row, column]
    return np.floor(out + 0.5).astype(np.uint8)


@pytest.mark.parametrize("shift", [(-7.3, -4.1), (6.4, 11.2), (-20.0, 2.0)])
def test_equals_float64_bilinear(drawing, shift):
    image = drawing(40, 50)
    matrix = np.array([[0.7, -0.31, shift[0]], [0.31, 0.7, shift[1]]])
    expected = bilinear(image, matrix, 28, 24)
    got = warp(image, matrix, 28, 24)
    assert np.abs(got.astype(int) - expected).max() <= 1
    assert (got == expected).mean() > 0.999
    assert len(np.unique(expected)) > 30


def test_whole_shift_copies(drawing):
    image = drawing(20, 30)
    moved = warp(image, np.array([[1.0, 0, -4], [0, 1, -3]]), 10, 12)
    np.testing.assert_array_equal(moved, image[3:13, 4:16])


def test_outside_is_zero(drawing):
    image = drawing(20, 30)
    got = warp(image, np.array([[1.0, 0, 6], [0, 1, 0]]), 20, 30)
    assert not got[:, :6].any()
    np.testing.assert_array_equal(got[:, 6:], image[:, :24])
    assert not warp(image, np.array([[1.0, 0, 1e9], [0, 1, -1e12]]), 5, 5).any()


def test_gray_stays_gray(drawing):
    image = drawing(20, 30)
    matrix = np.array([[1.2, 0.1, -3], [-0.1, 1.2, 2]])
    gray = warp(image[:, :, 1].copy(), matrix, 9, 8)
    np.testing.assert_array_equal(gray, warp(image, matrix, 9, 8)[:, :, 1])


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), [[1]]],
)
def test_bad_images(image):
    with pytest.raises(SphereFaceError, match=r"image of shape .* expected RGB of shape"):
        warp(image, np.eye(3)[:2], 4, 4)
