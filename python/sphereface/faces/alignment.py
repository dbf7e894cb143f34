"""From a picture and five landmarks to the crop that a net was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.faces.similarity import fit_similarity
from sphereface.faces.templates import Template, find_template
from sphereface.faces.warp import warp

__all__ = ["align"]

_LANDMARKS = (5, 2)


def align(
    image: NDArray[np.uint8], landmarks: Any, template: Template | str = "112x96"
) -> NDArray[np.uint8]:
    """Return the aligned crop of a face.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3) or (H, W), uint8
        RGB or grey.
    landmarks : array of shape (5, 2)
        In 0-based pixels, as `Face.landmarks`.
    template : Template or str
        One of `TEMPLATES`, or your own.

    Returns
    -------
    ndarray of the template's height and width, uint8
        As many channels as `image`; what lies outside the picture is 0.

    Raises
    ------
    SphereFaceError
        The image is not 8-bit RGB or grey, or the landmarks are none.

    Examples
    --------
    >>> image = np.zeros((200, 200, 3), np.uint8)
    >>> align(image, [[80, 80], [120, 80], [100, 100], [85, 120], [115, 120]]).shape
    (112, 96, 3)
    """
    if isinstance(template, str):
        template = find_template(template)
    if np.shape(landmarks) != _LANDMARKS:
        raise SphereFaceError(f"landmarks of shape {np.shape(landmarks)}", expected="(5, 2)")
    matrix = fit_similarity(landmarks, template.pixels, template.fit)
    return warp(image, matrix, template.height, template.width)
