import numpy as np
import pytest
import torch

from reference import mtcnn as reference
from sphereface.faces.mtcnn.pyramid import axis_weights, pyramid_scales, resample


def matrix(size, new_size):
    return axis_weights(size, new_size).matrix(size)


@pytest.mark.parametrize("new_size", [1, 5, 12, 24, 29, 30, 31, 48, 100])
@pytest.mark.parametrize("size", [1, 2, 20, 24, 30, 97])
def test_equals_the_definition(size, new_size):
    expected = reference.resample_axis(np.eye(size), new_size)
    np.testing.assert_allclose(matrix(size, new_size), expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=2e-3)  # dropped weights


@pytest.mark.parametrize("times", [2, 3, 4])
def test_whole_ratios_are_block_means(times):
    blocks = np.kron(np.eye(10), np.full(times, 1 / times))
    np.testing.assert_allclose(matrix(10 * times, 10), blocks, atol=1e-7)


@pytest.mark.parametrize("new_size", [24, 48])
def test_growing_is_linear_between_centres(new_size):
    centres = (np.arange(new_size) + 0.5) * 20 / new_size - 0.5
    ramp = np.arange(20.0) ** 2
    expected = np.interp(centres, np.arange(20), ramp)
    np.testing.assert_allclose(matrix(20, new_size) @ ramp, expected, atol=1e-4)


def test_equal_size_is_the_identity():
    np.testing.assert_array_equal(matrix(24, 24), np.eye(24))


def test_small_shares_are_dropped():
    # The second output starts 0.0005 before pixel 1.0005 ends.
    weights = matrix(2001, 2000)
    assert np.count_nonzero(weights[0]) == 1
    assert weights[0].sum() == pytest.approx(2000 / 2001)


@pytest.mark.parametrize(("height", "width"), [(13, 40), (22, 31), (60, 45), (38, 52)])
def test_level_equals_float64(drawing, height, width):
    image = drawing(38, 52)
    level = resample(torch.from_numpy(image), height, width)
    expected = reference.blob(reference.resample(image, height, width))
    assert level.shape == expected.shape == (1, 3, width, height)
    np.testing.assert_allclose(level.numpy(), expected.numpy(), atol=2e-6)


def test_columns_of_a_level(drawing):
    image = torch.from_numpy(drawing(61, 83))
    whole = resample(image, 31, 47)
    for start, stop in ((0, 12), (10, 30), (36, 47)):
        part = resample(image, 31, 47, start, stop)
        np.testing.assert_allclose(part.numpy(), whole[:, :, start:stop].numpy(), atol=1e-6)


def test_scales_of_lfw():
    scales = pyramid_scales(250, 250, 20, 0.85)
    assert len(scales) == 16
    assert len(pyramid_scales(250, 250, 20, 0.709)) == 8
    np.testing.assert_allclose(scales, 0.6 * 0.85 ** np.arange(16), rtol=1e-15)
    assert 250 * scales[-1] >= 12 > 250 * scales[-1] * 0.85


def test_smallest_picture():
    assert pyramid_scales(20, 4000, 20, 0.85) == [0.6]
    assert pyramid_scales(19, 4000, 20, 0.85) == []
