from __future__ import annotations

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.images import Preprocessing


@pytest.fixture
def photo(tmp_path, rng):
    """Return a PNG file and its pixels, height 5, width 4, BGR."""
    pixels = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    path = tmp_path / "photo ä.png"
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path, pixels


def test_pixels_as_they_are(photo):
    path, pixels = photo
    blob = Preprocessing().read(path)
    assert (blob.dtype, blob.shape) == (np.float32, (3, 5, 4))
    np.testing.assert_array_equal(blob, pixels.transpose(2, 0, 1))


def test_mean_before_scale_then_mirror_and_transposition(photo):
    path, pixels = photo
    form = Preprocessing(
        color="rgb", mean=np.array([1.0, 2, 3]), scale=0.25, mirror=True, transpose=True
    )
    expected = np.empty((3, 4, 5))
    for channel in range(3):
        for y in range(5):
            for x in range(4):
                value = (float(pixels[y, x, 2 - channel]) - (channel + 1)) * 0.25
                expected[channel, 3 - x, y] = value
    np.testing.assert_array_equal(form.read(path), expected)


def test_a_mean_image_is_mirrored_with_the_image(photo, rng):
    path, pixels = photo
    mean = rng.normal(size=(3, 5, 4)).astype(np.float32)
    blob = Preprocessing(mean=mean, mirror=True).read(path)
    np.testing.assert_allclose(
        blob, (pixels.transpose(2, 0, 1) - mean.astype(float))[:, :, ::-1], rtol=1e-5, atol=1e-5
    )


def test_bilinear_size(photo):
    path, pixels = photo
    blob = Preprocessing(size=(10, 8)).read(path)
    # Twice the size: pixel centres at (i + 0.5) / 2 - 0.5, weights 1/4 and 3/4, edges repeated.
    padded = np.pad(pixels.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = np.empty((10, 6, 3))
    rows[0::2] = 0.25 * padded[:-2] + 0.75 * padded[1:-1]
    rows[1::2] = 0.75 * padded[1:-1] + 0.25 * padded[2:]
    expected = np.empty((10, 8, 3))
    expected[:, 0::2] = 0.25 * rows[:, :-2] + 0.75 * rows[:, 1:-1]
    expected[:, 1::2] = 0.75 * rows[:, 1:-1] + 0.25 * rows[:, 2:]
    assert blob.shape == (3, 10, 8)
    assert np.abs(blob - expected.transpose(2, 0, 1)).max() <= 1  # rounded to bytes


def test_grey(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 4), dtype=np.uint8)
    path = tmp_path / "grey.pgm"
    path.write_bytes(b"P5\n4 5\n255\n" + pixels.tobytes())
    np.testing.assert_array_equal(Preprocessing(color="gray").read(path), pixels[None])
    np.testing.assert_array_equal(Preprocessing().read(path), np.stack([pixels] * 3))


def test_what_does_not_fit(photo, tmp_path):
    path, _ = photo
    with pytest.raises(SphereFaceError, match=r"photo.*\(3, 5, 4\).*mean of shape \(3, 2, 2\)"):
        Preprocessing(mean=np.zeros((3, 2, 2))).read(path)
    with pytest.raises(SphereFaceError, match=r"mean of shape \(2,\)"):
        Preprocessing(mean=np.zeros(2)).read(path)
    whole = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    for content, problem in (
        (b"no image", "no picture"),
        (b"", "empty"),
        (whole[:-9], "truncated"),
    ):
        (tmp_path / "bad.jpg").write_bytes(content)
        with pytest.raises(SphereFaceError, match=rf"bad\.jpg: {problem}"):
            Preprocessing().read(tmp_path / "bad.jpg")
