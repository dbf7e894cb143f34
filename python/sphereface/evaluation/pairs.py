"""Balanced verification pairs over labelled samples, in folds as LFW's list has them.

By default folds share classes and samples (a pair is in one fold only), for data sets with few
classes. With ``disjoint`` they do not, and pairs are drawn as LFW's view 2 was (its technical
report 07-49, 2007): for a pair of one person a person uniformly, then two of the images; for two
persons two uniformly, then an image of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError

__all__ = ["Pairs", "verification_pairs"]


@dataclass(frozen=True)
class Pairs:
    """Indices of the samples of P pairs, whether they are of one class, and their fold.

    Attributes
    ----------
    left, right : ndarray of shape (P,), int64
        Indices into the samples; left < right.
    same : ndarray of shape (P,), bool
        Whether both samples have one label.
    fold : ndarray of shape (P,), int64
        1 to the number of folds, in order.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


def verification_pairs(
    label: ArrayLike,
    per_fold: int = 300,
    folds: int = 10,
    seed: int = 0,
    *,
    disjoint: bool = False,
) -> Pairs:
    """Draw pairs without repetition: in each fold as many of one class as of two.

    Parameters
    ----------
    label : array_like of shape (S,), int
        Class of every sample. Unless disjoint, all S (S - 1) / 2 pairs are listed in memory.
    per_fold : int
        Pairs of one class in a fold, and pairs of two classes.
    folds : int
        Number of folds.
    seed : int
        Equal seeds give equal pairs.
    disjoint : bool
        No person is in two folds, so that a fold's threshold comes from strangers.

    Returns
    -------
    Pairs
        ``2 * per_fold * folds`` pairs; in a fold those of one class come first, as in LFW's list.

    Raises
    ------
    SphereFaceError
        There are fewer pairs of a kind than asked for.

    Examples
    --------
    >>> pairs = verification_pairs([0, 0, 0, 1, 1, 1], per_fold=1, folds=2)
    >>> pairs.fold, pairs.same
    (array([1, 1, 2, 2]), array([ True, False,  True, False]))
    """
    label = np.asarray(label)
    if disjoint:
        return _disjoint_pairs(label, per_fold, folds, np.random.default_rng(seed))
    first, second = np.triu_indices(len(label), k=1)
    equal = label[first] == label[second]
    rng = np.random.default_rng(seed)
    drawn = [
        _draw(rng, np.flatnonzero(equal == kind), per_fold, folds, name)
        for kind, name in ((True, "of one class"), (False, "of two classes"))
    ]
    chosen = np.concatenate(drawn, axis=1).ravel()  # (folds, 2 per_fold) flattened
    fold = np.repeat(np.arange(1, folds + 1), 2 * per_fold)
    return Pairs(first[chosen], second[chosen], equal[chosen], fold)


def _draw(
    rng: np.random.Generator, candidates: NDArray[np.int64], per_fold: int, folds: int, name: str
) -> NDArray[np.int64]:
    if len(candidates) < per_fold * folds:
        raise SphereFaceError(
            f"the samples make {len(candidates)} pairs {name}",
            where="verification_pairs",
            expected=f"at least {per_fold * folds}",
            fix="ask for fewer pairs or folds, or give more samples",
        )
    return rng.choice(candidates, per_fold * folds, replace=False).reshape(folds, per_fold)


def _disjoint_pairs(
    label: NDArray[Any], per_fold: int, folds: int, rng: np.random.Generator
) -> Pairs:
    people, index = np.unique(label, return_inverse=True)
    images = [np.flatnonzero(index == person) for person in range(len(people))]
    dealt = np.array_split(rng.permutation(len(people)), folds)
    drawn = []
    for number, members in enumerate(dealt, 1):
        own = [images[person] for person in members]
        sizes = np.array([len(one) for one in own], np.int64)
        within = int((sizes * (sizes - 1)).sum()) // 2
        across = int(sizes.sum()) * (int(sizes.sum()) - 1) // 2 - within
        for same, possible in ((True, within), (False, across)):
            if possible < per_fold:
                raise SphereFaceError(
                    f"the {len(own)} persons of fold {number} make {possible} pairs"
                    f" {'of one class' if same else 'of two classes'}",
                    where="verification_pairs",
                    expected=f"at least {per_fold}",
                    fix="ask for fewer pairs or folds, or give more samples",
                )
            usable = [one for one in own if len(one) > 1] if same else own
            drawn.append(_draw_people(rng, usable, per_fold, same))
    left, right = np.concatenate(drawn).T
    fold = np.repeat(np.arange(1, folds + 1), 2 * per_fold)
    return Pairs(left, right, index[left] == index[right], fold)


def _draw_people(
    rng: np.random.Generator, images: list[NDArray[np.int64]], count: int, same: bool
) -> NDArray[np.int64]:
    """Draw different pairs, persons uniformly; a pair that was drawn before is drawn again."""
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        if same:
            pair = rng.choice(images[rng.integers(len(images))], 2, replace=False)
        else:
            first, second = rng.choice(len(images), 2, replace=False)
            pair = np.array([rng.choice(images[first]), rng.choice(images[second])])
        found[int(pair.min()), int(pair.max())] = None
    return np.array(list(found))
