import cv2
import numpy as np

from sphereface.images import resize_image

RNG = np.random.default_rng(5)
SMOOTH = cv2.resize(RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8), (40, 50))


def test_resizing_is_bilinear_with_pixel_centres():
    for image in (SMOOTH, SMOOTH[:, :, :1]):
        resized = resize_image(image, 25, 20)
        # Halving takes the mean of each 2 x 2 block, rounded.
        blocks = image.astype(int).reshape(25, 2, 20, 2, -1).sum((1, 3))
        assert resized.shape == (25, 20, image.shape[2])
        assert np.abs(resized - blocks / 4).max() <= 0.5
    assert resize_image(SMOOTH, 50, 40) is SMOOTH
