from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sphereface.errors import SphereFaceError
from sphereface.evaluation import area, area_difference


def psi(genuine: np.ndarray, impostor: np.ndarray) -> np.ndarray:
    """DeLong's kernel, pair by pair."""
    return np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in impostor] for x in genuine])


def covariance(first: np.ndarray, second: np.ndarray) -> float:
    """The U-statistic's covariance from its kernels, as DeLong writes it."""
    m, n = first.shape
    rows = np.sum((first.mean(1) - first.mean()) * (second.mean(1) - second.mean())) / (m - 1)
    columns = np.sum((first.mean(0) - first.mean()) * (second.mean(0) - second.mean())) / (n - 1)
    return float(rows / m + columns / n)


def test_area_and_variance_by_the_kernel_with_ties() -> None:
    rng = np.random.default_rng(0)
    genuine, impostor = rng.integers(2, 9, 25) / 10, rng.integers(0, 7, 31) / 10
    found, kernel = area(genuine, impostor), psi(genuine, impostor)
    assert found.value == pytest.approx(kernel.mean(), abs=1e-14)
    assert found.variance == pytest.approx(covariance(kernel, kernel), abs=1e-15)
    label = np.repeat([1, 0], [25, 31])
    assert found.value == pytest.approx(
        roc_auc_score(label, np.concatenate([genuine, impostor])), abs=1e-14
    )
    logit = np.log(found.value / (1 - found.value))
    half = NormalDist().inv_cdf(0.975) * found.variance**0.5 / found.value / (1 - found.value)
    assert found.low == pytest.approx(1 / (1 + np.exp(half - logit)), abs=1e-12)
    assert found.high == pytest.approx(1 / (1 + np.exp(-half - logit)), abs=1e-12)


def test_two_normal_distributions() -> None:
    """The area is Phi(d / sqrt 2); 19 of 20 intervals are to hold it."""
    rng = np.random.default_rng(1)
    expected = NormalDist().cdf(1.5 / 2**0.5)
    found = [area(rng.normal(1.5, 1, 80), rng.normal(0, 1, 120)) for _ in range(400)]
    hits = sum(one.low <= expected <= one.high for one in found)
    assert 366 <= hits <= 394  # 380 +- 3.2 standard deviations
    # DeLong's variance is what the areas really scatter by.
    scatter = np.var([one.value for one in found], ddof=1)
    assert np.mean([one.variance for one in found]) == pytest.approx(scatter, rel=0.2)


def test_variance_against_a_bootstrap() -> None:
    rng = np.random.default_rng(2)
    genuine, impostor = rng.normal(1, 1, 150), rng.normal(0, 1, 200)
    drawn = [
        roc_auc_score(
            np.repeat([1, 0], [150, 200]),
            np.concatenate([rng.choice(genuine, 150), rng.choice(impostor, 200)]),
        )
        for _ in range(1000)
    ]
    assert area(genuine, impostor).variance == pytest.approx(np.var(drawn), rel=0.15)


def test_difference_of_two_models() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(1, 1, 40), rng.normal(0, 1, 50)
    first, second = ([side + rng.normal(0, s, len(side)) for side in truth] for s in (0.3, 0.8))
    found = area_difference((first[0], second[0]), (first[1], second[1]))
    one, two = psi(*first), psi(*second)
    variance = covariance(one, one) + covariance(two, two) - 2 * covariance(one, two)
    assert found.value == pytest.approx(one.mean() - two.mean(), abs=1e-14)
    assert found.standard_error == pytest.approx(variance**0.5, abs=1e-14)
    z = abs(found.value) / variance**0.5
    assert found.p_value == pytest.approx(2 * NormalDist().cdf(-z), abs=1e-12)
    assert 0 < found.p_value < 1


def test_no_difference_and_no_variance() -> None:
    genuine, impostor = [0.9, 0.8, 0.4], [0.5, 0.3]
    same = area_difference((genuine, genuine), (impostor, impostor))
    assert (same.value, same.p_value) == (0, 1)
    for one, other in itertools.permutations([[3.0, 4.0], [1.0, 2.0]]):
        found = area(one, other)
        assert found.variance == 0
        assert found.value == found.low == found.high == float(one > other)


def test_too_few() -> None:
    with pytest.raises(SphereFaceError, match="1 genuine and 2 impostor scores; expected at least"):
        area([0.5], [0.1, 0.2])
