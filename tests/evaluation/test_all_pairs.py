from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sphereface.errors import SphereFaceError
from sphereface.evaluation import all_pairs as module
from sphereface.evaluation import equal_error_rate, roc, tar_at_far
from sphereface.evaluation.all_pairs import all_pairs, unit_rows
from sphereface.evaluation.score_sets import SortedImpostors
from sphereface.evaluation.streamed_impostors import StreamedImpostors


def images(seed: int = 0, count: int = 90, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(12, size=count)
    centre = rng.normal(size=(12, 8))
    if ties:  # few different features: scores occur many times
        return np.round(centre)[label] + rng.integers(0, 2, (count, 8)), label
    return centre[label] + 0.7 * rng.normal(size=(count, 8)), label


def brute_force(features: np.ndarray, label: np.ndarray) -> tuple[list[float], list[float]]:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores: tuple[list[float], list[float]] = ([], [])
    for i, j in itertools.combinations(range(len(label)), 2):
        scores[int(label[i] != label[j])].append(float(unit[i] @ unit[j]))
    return scores


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    monkeypatch.setattr(module, "_COLUMNS", 10)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("seed", range(3))
def test_every_figure_by_brute_force(seed: int) -> None:
    features, label = images(seed)
    genuine, impostor = brute_force(features, label)
    told: list[int] = []
    found = all_pairs(features, label, [0.3, 0.1, 1e-2, 1e-3, 1e-4], advance=told.append)
    assert sum(told) == 90 * 89
    np.testing.assert_allclose(found.genuine, np.sort(genuine), atol=1e-6)
    assert found.impostors.count == len(impostor)
    expected = tar_at_far(genuine, impostor, [0.3, 0.1, 1e-2, 1e-3, 1e-4])
    for point, other in zip(found.points, expected, strict=True):
        assert (point.measurable, point.few) == (other.measurable, other.few)
        if point.measurable:
            assert point.threshold == pytest.approx(other.threshold, abs=1e-6)
            assert (point.far, point.tar) == (other.far, other.tar)
    assert [p.measurable for p in found.points] == [True] * 4 + [False]
    auc = roc_auc_score([1] * len(genuine) + [0] * len(impostor), genuine + impostor)
    assert abs(found.auc - auc) <= found.auc_error + 1e-9
    assert found.auc_error < 1e-4
    assert found.eer.value == pytest.approx(
        equal_error_rate(roc(genuine, impostor)).value, abs=2e-3
    )
    assert found.curve.far[-1] == found.curve.tar[-1] == 1


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("rule", ["strict", "nearest", "interp", "blufr"])
def test_ties_and_rules_are_exact(rule: str) -> None:
    features, label = images(1, count=80, ties=True)
    tiles = module._Tiles(*module._sorted(features, label), module.inner_products, lambda n: None)
    mates: list[np.ndarray] = []
    others = np.concatenate([scores.ravel() for scores in tiles.impostors(mates)])
    assert len(np.unique(others)) < len(others) / 2
    targets = [0.5, 0.2, 0.05, 0.01, 0.001]
    expected = tar_at_far(np.concatenate(mates), others, targets, rule)
    assert all_pairs(features, label, targets, rule).points == expected


def test_streamed_cuts_equal_sorted_ones() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(0, 0.3, 3000), 4).clip(-1, 1).astype(np.float32)
    streamed = StreamedImpostors(lambda: np.array_split(scores, 7))
    ranks = [0, 1, 5, 100, 1234, 2999]
    assert streamed.cuts(ranks) == SortedImpostors(scores).cuts(ranks)
    crowded = (0.5 + 1e-7 * rng.integers(0, 40, 500)).astype(np.float32)  # one bin holds all
    streamed = StreamedImpostors(lambda: [crowded.reshape(50, 10)])
    ranks = list(range(0, 500, 7))
    assert streamed.cuts(ranks) == SortedImpostors(crowded).cuts(ranks)
    assert streamed.cuts([]) == []


def test_a_scorer_may_be_handed_in() -> None:
    features, label = images()
    shapes = []

    def scorer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        shapes.append((left.shape, right.shape))
        return np.einsum("mk,nk->mn", left, right)

    found = all_pairs(features, label, [0.1], scorer=scorer)
    assert found.points[0].tar == all_pairs(features, label, [0.1]).points[0].tar
    assert shapes[0] == ((90, 8), (90, 8))


def test_a_scorer_that_changes_its_mind_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SphereFaceError, match="scorer: other scores the second time"):
        all_pairs(*images(), [0.1], scorer=lambda a, b: rng.uniform(-1, 1, (len(a), len(b))))


def test_names_as_labels_and_tables() -> None:
    features, label = images()
    named = all_pairs(features, [f"p{n}" for n in label], [0.1, 1e-6])
    assert named.points == all_pairs(features, label, [0.1, 1e-6]).points
    text = "\n".join(table.text() for table in named.tables())
    assert "1e-06   not measurable" in text
    assert named.to_dict()["impostors"] == named.impostors.count


@pytest.mark.parametrize(
    ("features", "label", "message"),
    [
        (np.ones((2, 3)), [0, 1], "0 pairs of one person and 1 of two; expected some of each"),
        (np.ones((2, 3)), [0, 0, 1], r"2 features and labels of shape \(3,\)"),
        (np.eye(2, 3) * [[1], [0]], [0, 1], "row 1 has no direction: its norm is 0"),
        (np.ones(3), [0, 1, 2], r"features of shape \(3,\)"),
    ],
)
def test_bad_arguments(features: np.ndarray, label: list, message: str) -> None:
    with pytest.raises(SphereFaceError, match=message):
        all_pairs(features, label)


def test_unit_rows() -> None:
    np.testing.assert_allclose(unit_rows([[3, 4], [0, -2]]), [[0.6, 0.8], [0, -1]], rtol=1e-7)
