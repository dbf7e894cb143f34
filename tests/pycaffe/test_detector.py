from __future__ import annotations

import cv2
import numpy as np
import pytest

from sphereface import pycaffe as caffe

NET = """
input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean"
  pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.fixture
def make(write_net, tmp_path):
    model = write_net(NET)
    caffe.Net(model, caffe.TEST).save(str(tmp_path / "w.caffemodel"))

    def build(**options):
        return caffe.Detector(model, str(tmp_path / "w.caffemodel"), **options)

    return build


@pytest.fixture
def photo(tmp_path, rng):
    pixels = rng.integers(0, 256, (12, 10, 3)).astype(np.uint8)
    path = str(tmp_path / "photo.png")
    cv2.imwrite(path, pixels)
    return path, pixels


def test_windows_of_images(make, photo):
    path, pixels = photo
    windows = [(0, 0, 8, 8), (2, 1, 10, 9), (4, 2, 12, 10)]
    detector = make(raw_scale=255, channel_swap=(2, 1, 0))
    found = detector.detect_windows([(path, windows)])
    assert [(entry["window"], entry["filename"]) for entry in found] == [(w, path) for w in windows]
    for entry, (top, left, bottom, right) in zip(found, windows, strict=True):
        expected = pixels[top:bottom, left:right].mean((0, 1))
        np.testing.assert_allclose(entry["prediction"], expected, rtol=1e-5)


def test_context_shows_the_surroundings_and_the_mean_outside(make, photo):
    _, pixels = photo
    mean = np.array([10.0, 20, 30])  # BGR
    detector = make(mean=mean, raw_scale=255, channel_swap=(2, 1, 0), context_pad=2)
    image = pixels[:, :, ::-1].astype(np.float32) / 255
    # Scale 8 / (8 - 2 * 2): a window of 4 rows grows to 8.
    np.testing.assert_allclose(detector.crop(image, (4, 4, 7, 7)), image[2:10, 2:10], atol=1e-6)
    # At the corner two rows and columns are outside.
    crop = detector.crop(image, (0, 0, 3, 3))
    np.testing.assert_allclose(crop[:2], np.broadcast_to(mean[::-1] / 255, (2, 8, 3)), rtol=1e-6)
    np.testing.assert_allclose(
        crop[2:, :2], np.broadcast_to(mean[::-1] / 255, (6, 2, 3)), rtol=1e-6
    )
    np.testing.assert_allclose(crop[2:, 2:], image[:6, :6], atol=1e-6)
