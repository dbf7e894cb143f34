from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from sphereface.errors import SphereFaceError
from sphereface.evaluation import tar_at_far


def shares(genuine: np.ndarray, impostor: np.ndarray, threshold: float) -> tuple[float, float]:
    return float(np.mean(impostor >= threshold)), float(np.mean(genuine >= threshold))


def strict(genuine: np.ndarray, impostor: np.ndarray, target: float) -> tuple[float, float, float]:
    """Try every score that occurs."""
    best = (np.inf, 0.0, 0.0)
    for threshold in sorted({*genuine.tolist(), *impostor.tolist()}, reverse=True):
        far, tar = shares(genuine, impostor, threshold)
        if far <= target:
            best = (threshold, far, tar)
    return best


def scores(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    genuine, impostor = rng.normal(1, 0.5, 60), rng.normal(0, 0.5, 100)
    return (genuine.round(1), impostor.round(1)) if ties else (genuine, impostor)


TARGETS = (1.0, 0.57, 0.3, 0.29, 0.1, 0.05, 0.01)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_strict_by_trying_every_score(seed: int, ties: bool) -> None:
    genuine, impostor = scores(seed, ties)
    for point in tar_at_far(genuine, impostor, TARGETS):
        threshold, far, tar = strict(genuine, impostor, point.target)
        assert point.threshold == threshold
        assert point.far == pytest.approx(far, abs=1e-15)
        assert point.tar == pytest.approx(tar, abs=1e-15)
        assert point.far <= point.target


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_other_rules_by_the_whole_curve(seed: int, ties: bool) -> None:
    genuine, impostor = scores(seed, ties)
    label = np.repeat([1, 0], [60, 100])
    pooled = np.concatenate([genuine, impostor])
    far, tar, threshold = roc_curve(label, pooled, drop_intermediate=False)
    nearest = tar_at_far(genuine, impostor, TARGETS, "nearest")
    interp = tar_at_far(genuine, impostor, TARGETS, "interp")
    exact = tar_at_far(genuine, impostor, TARGETS)
    for near, line, below in zip(nearest, interp, exact, strict=True):
        gap = np.abs(far - near.target)
        # Of equally near ones the lowest threshold, as insightface's reversed curve finds it.
        best = np.flatnonzero(gap <= gap.min() + 1e-12).max()
        assert (near.far, near.tar) == pytest.approx((far[best], tar[best]), abs=1e-12)
        assert near.threshold == threshold[best]
        assert below.tar <= near.tar + 1e-12 or near.far < near.target
        vertex = np.flatnonzero(far <= near.target).max()
        if vertex + 1 < len(far):
            expected = np.interp(near.target, far[vertex : vertex + 2], tar[vertex : vertex + 2])
            assert line.tar == pytest.approx(expected, abs=1e-12)
        assert line.far == pytest.approx(near.target, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_blufr_takes_the_impostor_of_the_rounded_rank(seed: int) -> None:
    genuine, impostor = scores(seed, ties=True)
    ranked = np.sort(impostor)[::-1]
    for point in tar_at_far(genuine, impostor, (0.5, 0.1, 0.016, 0.014), "blufr"):
        rank = int(np.floor(point.target * 100 + 0.5))
        assert point.threshold == ranked[rank - 1]
        assert (point.far, point.tar) == pytest.approx(
            shares(genuine, impostor, ranked[rank - 1]), abs=1e-15
        )


def test_blufr_without_a_false_accept_goes_halfway() -> None:
    [point] = tar_at_far([0.9, 0.8, 0.2], [0.6, 0.1], [0.0], "blufr")
    assert point.threshold == pytest.approx(0.7)
    assert (point.far, point.tar) == (0, pytest.approx(2 / 3))
    [none] = tar_at_far([0.2], [0.6, 0.1], [0.0], "blufr")
    assert (none.threshold, none.tar) == (np.inf, 0)
    assert none.to_dict()["threshold"] is None


def test_hand_table_with_ties() -> None:
    genuine, impostor = [0.9, 0.7, 0.7, 0.5], [0.7, 0.5, 0.5, 0.1]
    table = {
        p.target: (p.threshold, p.far, p.tar)
        for p in tar_at_far(genuine, impostor, [0.0, 0.25, 0.5, 0.75, 1.0])
    }
    assert table == {
        0.0: (0.9, 0.0, 0.25),
        0.25: (0.7, 0.25, 0.75),
        0.5: (0.7, 0.25, 0.75),  # the tie at 0.5 would make it 0.75
        0.75: (0.5, 0.75, 1.0),
        1.0: (0.1, 1.0, 1.0),
    }


def test_only_accepting_nothing_keeps_the_rate() -> None:
    [point] = tar_at_far([0.4], [0.5, 0.5, 0.5, 0.1], [0.25])
    assert (point.threshold, point.far, point.tar) == (np.inf, 0, 0)


def test_not_measurable_and_few() -> None:
    impostor = np.linspace(-1, 0.5, 2999)
    points = tar_at_far([0.4, 0.9], impostor, [1e-1, 1e-2, 1e-3, 1 / 3000, 1e-4])
    assert [p.measurable for p in points] == [True, True, True, False, False]
    assert [p.few for p in points] == [False, True, True, True, True]
    assert points[3].tar is points[3].threshold is points[3].low is None
    [exactly] = tar_at_far([0.9], np.append(impostor, -1), [1 / 3000])
    assert exactly.measurable
    assert exactly.far == pytest.approx(1 / 3000)
    assert not tar_at_far([0.9], np.append(impostor, -1), [0.01])[0].few


def test_wilson_interval() -> None:
    genuine, impostor = scores(0, ties=False)
    [point] = tar_at_far(genuine, impostor, [0.1])
    hits = round(point.tar * 60)
    centre, z = point.tar, 1.959963984540054
    middle = (centre + z**2 / 120) / (1 + z**2 / 60)
    half = z / (1 + z**2 / 60) * (centre * (1 - centre) / 60 + z**2 / 14400) ** 0.5
    assert (point.low, point.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert binomtest(hits, 60).proportion_ci().low < point.low < point.tar < point.high


def test_bad_arguments() -> None:
    with pytest.raises(SphereFaceError, match='rule "strikt"; expected strict, .*mean "strict"'):
        tar_at_far([1.0], [0.0], [0.1], "strikt")
    with pytest.raises(SphereFaceError, match="FAR: 1.5; expected a rate from 0 to 1"):
        tar_at_far([1.0], [0.0], [1.5])
