from __future__ import annotations

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.inspection.images import Preprocessing, list_images, read_mean
from sphereface.weights import write_binaryproto


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
    for content in (b"no image", b""):
        (tmp_path / "bad.jpg").write_bytes(content)
        with pytest.raises(SphereFaceError, match=r"bad\.jpg: not an image"):
            Preprocessing().read(tmp_path / "bad.jpg")


def test_means(tmp_path, rng):
    np.testing.assert_array_equal(read_mean("127.5"), [127.5])
    np.testing.assert_array_equal(read_mean("104, 117,123.5"), [104, 117, 123.5])
    mean = rng.normal(size=(1, 3, 2, 2)).astype(np.float32)
    path = str(tmp_path / "mean.binaryproto")
    write_binaryproto(path, mean)
    np.testing.assert_array_equal(read_mean(path), mean[0])
    np.testing.assert_array_equal(read_mean(path, "rgb"), mean[0, ::-1])
    with pytest.raises(SphereFaceError, match="nowhere"):
        read_mean("nowhere.binaryproto")
    write_binaryproto(path, mean[0, 0])
    with pytest.raises(SphereFaceError, match=r"expected a mean image"):
        read_mean(path)


def test_lists_and_folders(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.pgm", "sub/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list_images([tmp_path])
    assert found == [str(tmp_path / name) for name in ("a.JPG", "b.png", "sub/c.pgm")]
    listing = tmp_path / "list.txt"
    listing.write_text("x y.png 3\n\nz.png\n/absolute/w.png 0\n")
    assert list_images([listing, "one.png"], "root") == [
        "root/x y.png",
        "root/z.png",
        "/absolute/w.png",
        "one.png",
    ]
    listing.write_text("\n")
    with pytest.raises(SphereFaceError, match=r"list\.txt: no images"):
        list_images([listing])
