from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import best_of_all, facenet, ten_fold
from sphereface.evaluation.protocols import protocol


def pairs(seed: int = 0, count: int = 80) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    same = np.arange(count) % 2 == 0
    left = rng.normal(size=(count, 6))
    right = left + np.where(same, 0.8, 2.5)[:, None] * rng.normal(size=left.shape)
    return left, right, same, np.repeat(np.arange(1, 5), count // 4)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def test_facenet_by_its_loops() -> None:
    left, right, same, fold = pairs()
    distance = ((unit(left) - unit(right)) ** 2).sum(axis=1)
    result = facenet(left, right, same, fold)
    for index, number in enumerate(range(1, 5)):
        train = fold != number
        shares = []
        for threshold in np.arange(0, 4, 0.01):
            shares.append(np.mean((distance[train] < threshold) == same[train]))
        threshold = np.arange(0, 4, 0.01)[np.argmax(shares)]
        assert result.threshold[index] == -threshold
        held = ~train
        expected = np.mean((distance[held] < threshold) == same[held])
        assert result.accuracy[index] == pytest.approx(expected, abs=1e-15)
    np.testing.assert_allclose(result.scores, -distance, atol=1e-12)
    assert 0.6 < result.mean < 1


def test_best_tries_every_threshold() -> None:
    left, right, same, fold = pairs(1)
    cosine = (unit(left) * unit(right)).sum(axis=1)
    tried = np.linspace(-1.001, 1.001, 200001)
    greatest = max(np.mean((cosine > t) == same) for t in np.sort(cosine) + 1e-9)
    result = best_of_all(left, right, same, fold)
    assert result.mean == pytest.approx(greatest, abs=1e-15)
    assert len(set(result.threshold.tolist())) == 1
    assert tried[0] < result.threshold[0] < tried[-1]
    assert result.mean >= ten_fold(left, right, same, fold).mean - 0.05


@pytest.mark.parametrize("judge", [facenet, best_of_all])
def test_missing_pairs_count_as_wrong(judge) -> None:
    left, right, same, fold = pairs(2)
    missing = np.zeros(80, bool)
    missing[[0, 1, 41]] = True
    full = judge(left, right, same, fold)
    left[missing] = np.nan
    result = judge(left, right, same, fold, missing)
    assert np.isnan(result.scores[missing]).all()
    kept = ~missing
    np.testing.assert_allclose(result.scores[kept], full.scores[kept], atol=1e-12)
    t = result.threshold[0]
    first = fold == 1
    expected = np.mean(np.where(same, result.scores > t, result.scores <= t)[first] & kept[first])
    assert result.accuracy[0] == pytest.approx(expected, abs=1e-15)


def test_unknown_name() -> None:
    with pytest.raises(SphereFaceError, match='protocol "facenett"; expected .*mean "facenet"'):
        protocol("facenett")
