from __future__ import annotations

from math import comb

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import area_difference, ten_fold
from sphereface.evaluation.comparison import compare


def model(noise: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    same = np.arange(200) % 2 == 0
    left = rng.normal(size=(200, 6))
    right = left + np.where(same, 0.9, 2.5)[:, None] * rng.normal(size=left.shape)
    shake = np.random.default_rng(1).normal(size=left.shape)
    return left + noise * shake, right, same, np.repeat(np.arange(10), 20)


def test_three_questions() -> None:
    better, worse = model(0.1), model(1.2)
    first, second = ten_fold(*better), ten_fold(*worse)
    found = compare(first, second, better[2])
    gains = first.accuracy - second.accuracy
    assert found.accuracy == pytest.approx(gains.mean(), abs=1e-15)
    assert found.standard_error == pytest.approx(np.std(gains, ddof=1) / 10**0.5, abs=1e-15)
    only = [0, 0]
    for pair in range(200):
        fold = pair // 20
        a, b = ((r.scores[pair] > r.threshold[fold]) == better[2][pair] for r in (first, second))
        only[0] += a and not b
        only[1] += b and not a
    assert (found.only_first, found.only_second) == tuple(only)
    n, least = sum(only), min(only)
    tail = sum(comb(n, k) for k in range(least + 1)) / 2**n
    assert found.p_value == pytest.approx(min(1, 2 * tail), rel=1e-9)
    assert found.p_value < 0.05
    same = better[2]
    expected = area_difference(
        (first.scores[same], second.scores[same]), (first.scores[~same], second.scores[~same])
    )
    assert found.auc == expected
    assert found.to_dict()["auc"]["value"] == expected.value
    assert f"{only[0]} against {only[1]} pairs" in found.tables()[0].text()


def test_a_model_against_itself() -> None:
    result = ten_fold(*model(0.1))
    found = compare(result, result, model(0.1)[2])
    assert (found.accuracy, found.p_value, found.auc.p_value) == (0, 1, 1)


def test_other_pairs() -> None:
    result = ten_fold(*model(0.1))
    with pytest.raises(SphereFaceError, match="200 and 200 pairs; expected the same pairs"):
        compare(result, result, np.ones(3, bool))
