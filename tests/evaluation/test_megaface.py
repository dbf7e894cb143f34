from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import megaface as module
from sphereface.evaluation import tar_at_far
from sphereface.evaluation.megaface import megaface


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_and_verification_by_loops(ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 4)
    monkeypatch.setattr(module, "_COLUMNS", 9)
    rng = np.random.default_rng(0)
    label = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    centre = rng.normal(size=(4, 5))
    probes = centre[label] + 0.8 * rng.normal(size=(10, 5))
    distractors = rng.normal(size=(50, 5))
    if ties:
        probes, distractors = (np.sign(x) for x in (probes, distractors))
        probes, distractors = probes / 5**0.5, distractors / 5**0.5
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes, distractors)]
    own, others = (u.astype(np.float32) for u in unit)
    sizes, told = [0, 10, 37, 50], []
    found = megaface(probes, label, distractors, sizes, [0.1, 0.01], advance=told.append)
    genuine, ranks = [], {size: [] for size in sizes}
    scores = own @ others.T
    mates = own @ own.T
    for probe in range(10):
        for mate in range(10):
            if probe == mate or label[probe] != label[mate]:
                continue
            genuine.append(mates[probe, mate])
            for size in sizes:
                ahead = sum(s >= mates[probe, mate] - 1e-6 for s in scores[probe, :size])
                ranks[size].append(1 + ahead)
    assert len(genuine) == 6 + 2 + 12
    assert found.sizes == sizes
    if not ties:
        assert found.rank.tolist() == [ranks[size] for size in sizes]
        expected = tar_at_far(genuine, scores.ravel(), [0.1, 0.01])
        for point, other in zip(found.points, expected, strict=True):
            assert point.tar == other.tar
            assert point.far == other.far
    assert sum(told) == 3 * 10 * 50
    assert (found.rank[0] == 1).all()
    assert (np.diff(found.rank, axis=0) >= 0).all()
    for size, curve in zip(sizes, found.cmc(3), strict=True):
        own_ranks = found.rank[sizes.index(size)]
        assert curve.tolist() == [np.mean(own_ranks <= r) for r in (1, 2, 3)]


def test_a_tie_with_a_distractor_counts_against_the_model() -> None:
    probes = np.array([[1.0, 0], [0, 1], [0, 1]])
    found = megaface(probes, [5, 5, 6], [[0, 1], [1, 0], [0, 1]], sizes=[1, 3], targets=[0.5])
    # 0 searches for 1 (score 0), distractors score 0, 1, 0; 1 for 0: 1, 0, 1.
    assert found.rank.tolist() == [[2, 2], [4, 4]]


def test_sizes_when_not_given_and_the_table() -> None:
    rng = np.random.default_rng(1)
    found = megaface(rng.normal(size=(4, 3)), [0, 0, 1, 1], rng.normal(size=(120, 3)))
    assert found.sizes == [10, 100, 120]
    table = found.tables()[0]
    assert [row[0] for row in table.rows] == ["10", "100", "120"]
    assert found.to_dict()["rank_1"] == found.cmc(1)[:, 0].tolist()


def test_bad_arguments() -> None:
    with pytest.raises(SphereFaceError, match="no person has two photographs"):
        megaface(np.eye(2), [0, 1], np.eye(2))
    with pytest.raises(SphereFaceError, match=r"sizes \[5\]; expected numbers from 0 to 2"):
        megaface(np.eye(2), [0, 0], np.eye(2), [5])
