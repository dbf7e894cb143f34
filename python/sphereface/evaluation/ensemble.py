"""Several models as one: features side by side, and a PCA that never sees the fold it is judged on.

Source: the paper's three-patch ensemble on MegaFace concatenates features; PCA fitted on the other
nine folds is the option of OpenCV Zoo's LFW script.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.folded_pairs import FoldedPairs, folded_pairs
from sphereface.evaluation.ten_fold import FoldResult, judge_folds
from sphereface.extras import require

__all__ = ["concatenated", "pca_ten_fold"]


def concatenated(features: Sequence[ArrayLike], *, normalize: bool = True) -> NDArray[np.float64]:
    """Put the features of several models of the same images side by side.

    Parameters
    ----------
    features : sequence of array_like of shape (S, K_i)
        A row an image, in one order.
    normalize : bool
        Give each model's rows unit length first, so that each has the same say; the paper's
        concatenation does not.

    Returns
    -------
    ndarray of shape (S, sum of K_i), float64
    """
    arrays = [np.asarray(one, dtype=np.float64) for one in features]
    shapes = [array.shape for array in arrays]
    if not arrays or any(len(s) != 2 for s in shapes) or len({s[0] for s in shapes}) != 1:
        raise SphereFaceError(
            f"features of shapes {shapes}", where="ensemble", expected="one row an image in each"
        )
    if normalize:
        norms = [np.linalg.norm(array, axis=1, keepdims=True) for array in arrays]
        arrays = [
            np.divide(array, norm, out=np.zeros_like(array), where=norm > 0)
            for array, norm in zip(arrays, norms, strict=True)
        ]
    return np.concatenate(arrays, axis=1)


def pca_ten_fold(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    components: int,
    missing: ArrayLike | None = None,
) -> FoldResult:
    """Judge folds as `sphereface.evaluation.ten_fold`, after a PCA fitted on the other folds.

    Parameters
    ----------
    left, right, same, fold, missing
        As `sphereface.evaluation.ten_fold` has them.
    components : int
        Dimensions kept, at most K and the number of features fitted.

    Returns
    -------
    FoldResult
    """
    pairs = folded_pairs(left, right, same, fold, missing)
    pca = require("sklearn.decomposition", "evaluation").PCA
    scores = np.empty((len(pairs.numbers), len(pairs.same)))
    for index in range(len(pairs.numbers)):
        fitted = (pairs.member != index) & pairs.present
        sides = np.concatenate([pairs.left[fitted], pairs.right[fitted]])
        if not 1 <= components <= min(sides.shape):
            raise SphereFaceError(
                f"{components} components",
                where="PCA",
                expected=f"1 to {min(sides.shape)}: {sides.shape[0]} features of"
                f" {sides.shape[1]} numbers are fitted",
            )
        model = pca(components, svd_solver="covariance_eigh").fit(sides)
        scores[index] = _projected_cosines(pairs, model.mean_, model.components_)
    return judge_folds(pairs, scores)


def _projected_cosines(
    pairs: FoldedPairs, mean: NDArray[np.float64], axes: NDArray[np.float64]
) -> NDArray[np.float64]:
    left, right = ((side - mean) @ axes.T for side in (pairs.left, pairs.right))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.einsum("pk,pk->p", left, right) / norms
    return np.where(pairs.present, cosines, np.nan)
