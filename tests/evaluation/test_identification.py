from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation.identification import (
    centroids,
    cmc,
    search,
    search_scores,
    tpir_at_fpir,
)


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """30 probes, some of nobody, 40 items with several a person, scores with ties."""
    rng = np.random.default_rng(seed)
    probe, gallery = rng.integers(0, 15, 30), rng.integers(0, 11, 40)
    scores = rng.integers(0, 12, (30, 40)) + 4 * (probe[:, None] == gallery)
    return scores / 20, probe, gallery


@pytest.mark.parametrize("seed", range(4))
def test_ranks_by_loops(seed: int) -> None:
    scores, probe, gallery = example(seed)
    found = search_scores(scores, probe, gallery)
    for p in range(30):
        mates = [scores[p, g] for g in range(40) if gallery[g] == probe[p]]
        others = [scores[p, g] for g in range(40) if gallery[g] != probe[p]]
        assert found.other[p] == max(others)
        if not mates:
            assert (found.rank[p], found.mate[p]) == (0, -np.inf)
            continue
        assert found.mate[p] == max(mates)
        assert found.rank[p] == 1 + sum(s >= max(mates) for s in others)
    curve = cmc(found, 40)
    own = [r for r in found.rank if r > 0]
    assert 0 < len(own) < 30
    for rank in (1, 2, 5, 40):
        assert curve[rank - 1] == pytest.approx(sum(r <= rank for r in own) / len(own), abs=1e-15)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_open_set_by_trying_every_threshold(seed: int, rank: int) -> None:
    scores, probe, gallery = example(seed)
    found = search_scores(scores, probe, gallery)
    mated = found.rank > 0
    for point in tpir_at_fpir(found, [0.5, 0.2], rank):
        best = 0.0
        for threshold in np.unique(scores):
            fpir = np.mean(found.other[~mated] >= threshold)
            if fpir <= point.target:
                hits = (found.mate[mated] >= threshold) & (found.rank[mated] <= rank)
                best = max(best, float(np.mean(hits)))
        assert point.measurable
        assert point.tar == pytest.approx(best, abs=1e-15)
        assert point.far <= point.target


def test_ties_count_against_the_model() -> None:
    found = search_scores([[0.5, 0.5, 0.5, 0.1]], [7], [7, 1, 2, 7])
    assert found.rank.tolist() == [3]


def test_features_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    probes, items = rng.normal(size=(25, 6)), rng.normal(size=(14, 6))
    probe, gallery = rng.integers(0, 9, 25), rng.integers(0, 7, 14)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes, items)]
    expected = search_scores(unit[0] @ unit[1].T, probe, gallery)
    monkeypatch.setattr("sphereface.evaluation.identification._ROWS", 4)
    found = search(probes, probe, items, gallery)
    np.testing.assert_array_equal(found.rank, expected.rank)
    np.testing.assert_allclose(found.mate, expected.mate, atol=1e-6)
    np.testing.assert_allclose(found.other, expected.other, atol=1e-6)


def test_centroids() -> None:
    found, people = centroids([[2, 0], [0, 5], [-1, 0]], ["a", "a", "b"])
    assert people.tolist() == ["a", "b"]
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [-1, 0]], atol=1e-7)


def test_an_empty_set_of_distractors_is_always_found() -> None:
    found = search_scores([[0.1], [0.2]], [3, 3], [3])
    assert found.rank.tolist() == [1, 1]
    assert (found.other == -np.inf).all()


def test_bad_arguments() -> None:
    with pytest.raises(SphereFaceError, match=r"shape \(1, 2\); expected \(1, 3\): a row a probe"):
        search_scores([[1, 2]], [0], [0, 1, 2])
    with pytest.raises(SphereFaceError, match="a score is NaN"):
        search_scores([[np.nan]], [0], [0])
    strangers = search_scores([[1.0]], [0], [1])
    with pytest.raises(SphereFaceError, match="no probe has a mate"):
        cmc(strangers, 1)
    with pytest.raises(SphereFaceError, match="0 mated and 1 non-mated probes; expected some of"):
        tpir_at_fpir(strangers)
