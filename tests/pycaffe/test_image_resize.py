from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.pycaffe.image_resize import resize_image

RECORDED = np.load(Path(__file__).parents[1] / "golden" / "pycaffe" / "images.npz")
CASES = sorted(name for name in RECORDED if "/order" in name)


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_scikit_image_and_scipy(name, norm_error):
    image, (expected, order) = name.split("/")[0], (RECORDED[name], int(name[-1]))
    result = resize_image(RECORDED[f"{image}/in"], expected.shape[:2], order)
    assert result.dtype == np.float32
    assert norm_error(result, expected) < 1e-6  # the rounding of float32


def test_the_border_fades_to_the_minimum():
    # Twice as large: the first pixel lies a quarter outside, where it is dark.
    result = resize_image(np.array([[[0.0], [4.0]], [[8.0], [8.0]]]), (4, 4))
    ramp = [8 * 0.75, 8, 8, 8 * 0.75]
    np.testing.assert_allclose(result[3, :, 0], np.array(ramp) * 0.75, rtol=1e-6)


def test_constant_images():
    result = resize_image(np.full((3, 3, 3), 0.3, np.float32), (5, 4))
    assert result.shape == (5, 4, 3)
    assert (result == np.float32(0.3)).all()


def test_the_same_size_is_the_same_image(rng):
    image = rng.normal(size=(4, 5, 3)).astype(np.float32)
    for order in (0, 1, 3):
        np.testing.assert_allclose(resize_image(image, (4, 5), order), image, atol=1e-6)


@pytest.mark.parametrize(("shape", "order"), [((4, 4), 1), ((4, 4, 3), 2), ((4, 4, 5), 3)])
def test_what_is_not_known(shape, order):
    with pytest.raises(SphereFaceError, match="interp_order"):
        resize_image(np.arange(np.prod(shape)).reshape(shape), (2, 2), order)
