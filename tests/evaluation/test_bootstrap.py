from __future__ import annotations

import itertools

import numpy as np
import pytest

from sphereface.evaluation import tar_at_far
from sphereface.evaluation.bootstrap import identity_intervals


def all_pairs(seed: int, people: int, images: int) -> tuple[list[float], list[str], list[str]]:
    """Pairs of images whose quality belongs to the person, so that pairs depend on each other."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 1, people)
    shown = [(p, i) for p in range(people) for i in range(images)]
    scores, left, right = [], [], []
    for (a, _), (b, _) in itertools.combinations(shown, 2):
        mean = 1.5 + quality[a] if a == b else 0.0
        scores.append(mean + rng.normal(0, 0.5))
        left.append(f"p{a}")
        right.append(f"p{b}")
    return scores, left, right


def test_replicates_by_copying_pairs() -> None:
    """One replicate, made by listing each pair as often as it weighs."""
    scores, left, right = all_pairs(0, people=8, images=3)
    rng = np.random.default_rng(5)
    draws = rng.multinomial(8, np.full(8, 1 / 8))
    genuine, impostor = [], []
    for score, a, b in zip(scores, left, right, strict=True):
        i, j = int(a[1:]), int(b[1:])
        if a == b:
            genuine += [score] * draws[i]
        else:
            impostor += [score] * (draws[i] * draws[j])
    expected = [p.tar for p in tar_at_far(genuine, impostor, [0.3, 0.1])]
    found = identity_intervals(scores, left, right, [0.3, 0.1], replicates=1, seed=5)
    for (low, high), tar in zip(found, expected, strict=True):
        assert low == high == pytest.approx(tar, abs=1e-12)


def test_people_that_differ_make_it_wider_than_independent_pairs() -> None:
    scores, left, right = all_pairs(1, people=12, images=8)
    values = np.array(scores)
    same = np.array(left) == np.array(right)
    [point] = tar_at_far(values[same], values[~same], [0.1])
    [(low, high)] = identity_intervals(scores, left, right, [0.1], replicates=300)
    assert low < point.tar < high
    assert high - low > 1.5 * (point.high - point.low)


def test_the_seed_decides() -> None:
    data = all_pairs(2, people=6, images=3)
    first, again, other = (
        identity_intervals(*data, [0.1], replicates=20, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
