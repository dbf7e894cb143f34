from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.pycaffe.image_resize import resize_image
from sphereface.pycaffe.io import Transformer


@pytest.fixture
def transformer():
    t = Transformer({"data": (10, 3, 4, 5)})
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (2, 1, 0))
    t.set_raw_scale("data", 255)
    t.set_mean("data", np.array([104.0, 117, 123]))
    t.set_input_scale("data", 0.5)
    return t


def test_order_of_the_steps(transformer, rng):
    image = rng.random((4, 5, 3))
    result = transformer.preprocess("data", image)
    assert result.dtype == np.float32
    bgr = np.stack([image[:, :, 2], image[:, :, 1], image[:, :, 0]])
    expected = (bgr * 255 - np.array([104, 117, 123])[:, None, None]) * 0.5
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_deprocess_undoes_it(transformer, rng):
    image = rng.random((4, 5, 3)).astype(np.float32)
    kept = image.copy()
    blob = transformer.preprocess("data", image)[np.newaxis]
    np.testing.assert_allclose(transformer.deprocess("data", blob), image, atol=1e-6)
    np.testing.assert_array_equal(image, kept)


def test_images_of_another_size_are_resized(rng):
    t = Transformer({"data": (1, 3, 4, 5)})
    t.set_transpose("data", (2, 0, 1))
    image = rng.random((8, 9, 3)).astype(np.float32)
    expected = resize_image(image, (4, 5)).transpose(2, 0, 1)
    np.testing.assert_array_equal(t.preprocess("data", image), expected)


def test_mean_images(rng):
    t = Transformer({"data": (1, 3, 4, 5)})
    image = rng.random((4, 5, 3)).astype(np.float32)
    t.set_transpose("data", (2, 0, 1))
    mean = rng.random((3, 4, 5)).astype(np.float32)
    t.set_mean("data", mean)
    np.testing.assert_array_equal(t.preprocess("data", image), image.transpose(2, 0, 1) - mean)
    larger = rng.random((3, 8, 10)).astype(np.float32)
    t.set_mean("data", larger)
    expected = resize_image(larger.transpose(1, 2, 0), (4, 5)).transpose(2, 0, 1)
    np.testing.assert_array_equal(t.mean["data"], expected)
    t.set_mean("data", mean[0])
    assert t.mean["data"].shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("setter", "value", "message"),
    [
        ("set_transpose", (1, 0), "same number of dimensions as the input"),
        ("set_channel_swap", (1, 0), "input channels, 3"),
        ("set_mean", np.zeros(4), "mean channels incompatible"),
        ("set_mean", np.zeros((2, 4, 5)), "mean shape invalid"),
    ],
)
def test_values_that_do_not_fit(setter, value, message):
    t = Transformer({"data": (1, 3, 4, 5)})
    with pytest.raises(SphereFaceError, match=message):
        getattr(t, setter)("data", value)
    with pytest.raises(SphereFaceError, match="datta is not one of the net inputs: data"):
        getattr(t, setter)("datta", value)
