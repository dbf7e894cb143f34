from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import ten_fold
from sphereface.evaluation.ensemble import concatenated, pca_ten_fold


def pairs(seed: int = 0, count: int = 120, width: int = 8) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    same = np.arange(count) % 2 == 0
    scale = np.array([3.0] * 3 + [0.5] * (width - 3))
    left = rng.normal(size=(count, width)) * scale + 2
    right = left + np.where(same, 0.4, 1.5)[:, None] * rng.normal(size=left.shape) * scale
    return left, right, same, np.repeat(np.arange(1, 5), count // 4)


def test_pca_by_singular_vectors_of_the_other_folds() -> None:
    left, right, same, fold = pairs()
    result = pca_ten_fold(left, right, same, fold, components=3)
    for number in range(1, 5):
        others, held = fold != number, fold == number
        fitted = np.concatenate([left[others], right[others]])
        mean = fitted.mean(axis=0)
        axes = np.linalg.svd(fitted - mean, full_matrices=False)[2][:3]
        a, b = (left[held] - mean) @ axes.T, (right[held] - mean) @ axes.T
        expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(result.scores[held], expected, atol=1e-10)


def test_all_components_are_only_a_rotation() -> None:
    left, right, same, fold = pairs(1)
    missing = np.arange(120) % 17 == 0
    turned = pca_ten_fold(left, right, same, fold, 8, missing)
    plain = ten_fold(left, right, same, fold, missing)
    np.testing.assert_allclose(turned.scores, plain.scores, atol=1e-10)
    assert turned.accuracy.tolist() == plain.accuracy.tolist()


def test_concatenation() -> None:
    first, second = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[2.0], [-5.0]])
    np.testing.assert_allclose(concatenated([first, second]), [[0.6, 0.8, 1], [0, 0, -1]])
    np.testing.assert_array_equal(
        concatenated([first, second], normalize=False), [[3, 4, 2], [0, 0, -5]]
    )


def test_bad_arguments() -> None:
    with pytest.raises(SphereFaceError, match=r"9 components; expected 1 to 8: 180 features of 8"):
        pca_ten_fold(*pairs(), components=9)
    with pytest.raises(SphereFaceError, match=r"\[\(2, 2\), \(3, 1\)\]; expected one row an im"):
        concatenated([np.ones((2, 2)), np.ones((3, 1))])
