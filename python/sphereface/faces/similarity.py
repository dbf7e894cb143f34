"""The similarity (turn, scale, shift) that takes landmarks to their template.

Source: Matlab's cp2tform(..., 'similarity'), which SphereFace's face_align_demo.m calls: it fits
the map from the template to the image by least squares and inverts it, and takes the mirrored fit
where that is closer. ``fit="forward"`` is the other direction, which Umeyama (1991), skimage and
insightface use; its scale is smaller by the squared correlation of the two point sets.
What differs: the least squares are solved in closed form, as one complex regression.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["Fit", "fit_similarity"]

Fit = Literal["inverse", "forward"]
_AXES = 2


def fit_similarity(points: Any, template: Any, fit: Fit = "inverse") -> NDArray[np.float64]:
    """Return the map from the image to the template.

    Parameters
    ----------
    points, template : array of shape (N, 2), N >= 2
        x and y of the same landmarks in the image and in the crop, counted from the same base.
    fit : {"inverse", "forward"}
        ``"inverse"``: as Matlab, mirrored where that fits better. ``"forward"``: the errors are
        measured in the crop, and nothing is mirrored.

    Returns
    -------
    ndarray of shape (2, 3), float64
        M with [x, y] = M @ [u, v, 1] for u, v in the image and x, y in the crop.

    Raises
    ------
    SphereFaceError
        A value is not finite, or all points are one.

    Examples
    --------
    >>> fit_similarity([[0, 0], [2, 0]], [[1, 1], [1, 2]]).tolist()
    [[-0.0, -0.5, 1.0], [0.5, 0.0, 1.0]]
    """
    image, crop = _points(points, "points"), _points(template, "template")
    if image.shape != crop.shape:
        raise SphereFaceError(f"{len(image)} points for a template of {len(crop)}")
    if fit == "forward":
        return _least_squares(image, crop)
    plain = _inverted(_least_squares(crop, image))
    mirror = np.array([-1.0, 1.0])
    # Matlab mirrors the crop's x and undoes it in the result.
    mirrored = _inverted(_least_squares(crop * mirror, image)) * mirror[:, None]
    return plain if _error(plain, image, crop) <= _error(mirrored, image, crop) else mirrored


def _points(values: Any, what: str) -> NDArray[np.float64]:
    points = np.asarray(values, np.float64)
    if points.ndim != _AXES or points.shape[1] != _AXES or len(points) < _AXES:
        raise SphereFaceError(
            f"{what} of shape {points.shape}", expected="(N, 2) with N at least 2"
        )
    if not np.isfinite(points).all():
        raise SphereFaceError(f"{what} hold NaN or infinity", expected="finite coordinates")
    if (points == points[0]).all():
        raise SphereFaceError(f"all {what} are the same", expected="at least two different points")
    return points


def _least_squares(source: NDArray[np.float64], target: NDArray[np.float64]) -> Any:
    # A turn with a scale is one complex factor: minimise |z_target - factor z_source - shift|.
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = z - z.mean()
    factor = np.vdot(centred, w) / np.vdot(centred, centred).real
    shift = w.mean() - factor * z.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def _inverted(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    square = matrix[:, :2]
    if not np.linalg.det(square):
        raise SphereFaceError(
            "the points have nothing in common with the template", expected="landmarks of a face"
        )
    inverse = np.linalg.inv(square)
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def _error(
    matrix: NDArray[np.float64], image: NDArray[np.float64], crop: NDArray[np.float64]
) -> Any:
    return np.linalg.norm(image @ matrix[:, :2].T + matrix[:, 2] - crop, 2)
