from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import verification_pairs

LABEL = np.random.default_rng(0).integers(5, size=60)


def test_balanced_folds_without_repetition() -> None:
    pairs = verification_pairs(LABEL, per_fold=20, folds=10)
    assert pairs.fold.tolist() == [fold for fold in range(1, 11) for _ in range(40)]
    assert pairs.same.tolist() == ([True] * 20 + [False] * 20) * 10
    np.testing.assert_array_equal(LABEL[pairs.left] == LABEL[pairs.right], pairs.same)
    assert (pairs.left < pairs.right).all()
    assert len(set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))) == 400


def test_the_seed_decides() -> None:
    first, again, other = (verification_pairs(LABEL, 20, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.left, again.left)
    np.testing.assert_array_equal(first.right, again.right)
    assert (first.left != other.left).any()


def test_every_pair_of_a_kind_can_be_drawn() -> None:
    pairs = verification_pairs([0, 0, 1, 1, 1], per_fold=2, folds=2)
    same = {(a, b) for a, b, s in zip(pairs.left, pairs.right, pairs.same, strict=True) if s}
    assert same == {(0, 1), (2, 3), (2, 4), (3, 4)}


def test_too_few_samples() -> None:
    with pytest.raises(SphereFaceError, match="make 1 pairs of one class; expected at least 20"):
        verification_pairs([0, 0, 1], per_fold=2)
    with pytest.raises(SphereFaceError, match="make 0 pairs of two classes; expected at least 2"):
        verification_pairs([0, 0, 0], per_fold=1, folds=2)


def test_people_disjoint_over_folds() -> None:
    label = np.random.default_rng(1).choice([f"p{i}" for i in range(60)], 400)
    pairs = verification_pairs(label, per_fold=30, folds=5, disjoint=True)
    assert pairs.fold.tolist() == [fold for fold in range(1, 6) for _ in range(60)]
    assert pairs.same.tolist() == ([True] * 30 + [False] * 30) * 5
    np.testing.assert_array_equal(label[pairs.left] == label[pairs.right], pairs.same)
    people = [
        {*label[pairs.left[pairs.fold == f]], *label[pairs.right[pairs.fold == f]]}
        for f in range(1, 6)
    ]
    assert sum(map(len, people)) == len(set.union(*people))
    assert (pairs.left < pairs.right).all()
    assert len(set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))) == 300
    again = verification_pairs(label, per_fold=30, folds=5, disjoint=True)
    np.testing.assert_array_equal(pairs.left, again.left)


def test_disjoint_draws_people_not_images() -> None:
    """A person with 90 images is in as many pairs as one with 10."""
    label = np.repeat([0, 1, 2, 3], [90, 10, 90, 10])
    pairs = verification_pairs(label, per_fold=40, folds=1, seed=3, disjoint=True)
    counts = np.bincount(label[pairs.left[pairs.same]], minlength=4)
    assert counts.min() >= 4
    every = verification_pairs([0, 0, 1, 1, 1], per_fold=4, folds=1, disjoint=True)
    drawn = zip(every.left, every.right, every.same, strict=True)
    assert {(a, b) for a, b, s in drawn if s} == {(0, 1), (2, 3), (2, 4), (3, 4)}


def test_too_few_people_for_disjoint_folds() -> None:
    message = "the 1 persons of fold 1 make 0 pairs of two classes; expected at least 1"
    with pytest.raises(SphereFaceError, match=message):
        verification_pairs([0, 0, 1, 1], per_fold=1, folds=2, disjoint=True)
