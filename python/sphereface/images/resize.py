"""Pictures in another size.

Source: cv::resize as Caffe's util/io.cpp calls it. What differs: nothing.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from sphereface import extras

__all__ = ["resize_image"]


def resize_image(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return a picture in another size, as Caffe does it: bilinear, without a low-pass filter.

    Parameters
    ----------
    image : ndarray of shape (H, W, C)
        uint8.

    Returns
    -------
    ndarray of shape (height, width, C)
        `image` itself if it has this size.
    """
    if image.shape[:2] == (height, width):
        return image
    resized: NDArray[Any] = extras.require("cv2", "data").resize(image, (width, height))
    return resized if resized.ndim == 3 else resized[:, :, None]
