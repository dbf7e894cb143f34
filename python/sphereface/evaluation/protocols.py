"""Fold protocols by name: the original's, and two others that published figures were made with.

sphereface
    `sphereface.evaluation.ten_fold`: evaluation.m. The default.
facenet
    David Sandberg's validate_on_lfw: squared Euclidean distance of unit features, no mean taken
    off, thresholds 0, 0.01 ... 3.99, the first of the best on the other folds; a distance below it
    is the same person.
best
    opensphere's: the cosine of the features as they are, and the one threshold that is best over
    all pairs, those that are judged included. Optimistic: not comparable with the other two.

The scores of every protocol grow with likeness, so facenet's are distances times -1, and so are its
thresholds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError, nearest
from sphereface.evaluation.folded_pairs import FoldedPairs, folded_pairs
from sphereface.evaluation.ten_fold import FoldResult, rightly, ten_fold

__all__ = ["PROTOCOLS", "best_of_all", "facenet", "protocol"]

_DISTANCES = np.arange(0, 4, 0.01)


def facenet(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    missing: ArrayLike | None = None,
) -> FoldResult:
    """Judge folds as facenet does; the arguments are `sphereface.evaluation.ten_fold`'s."""
    pairs = folded_pairs(left, right, same, fold, missing)
    distance = 2 - 2 * _cosines(pairs)
    # (T, P); NaN is neither below nor above, and so wrong.
    below = distance < _DISTANCES[:, None]
    right_at = np.where(pairs.same, below, distance >= _DISTANCES[:, None])
    best = [int(np.argmax(right_at[:, pairs.member != f].sum(axis=1))) for f in pairs.every_fold]
    judged = right_at[np.array(best)[pairs.member], np.arange(len(distance))]
    return FoldResult(pairs.numbers, pairs.fold_means(judged), -_DISTANCES[best], -distance, judged)


def best_of_all(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    missing: ArrayLike | None = None,
) -> FoldResult:
    """Judge folds by the threshold best over all; arguments are `sphereface.evaluation.ten_fold`'s.

    The threshold is halfway between two neighbouring scores, the highest of equally good ones.
    """
    pairs = folded_pairs(left, right, same, fold, missing)
    scores = _cosines(pairs)
    known = np.unique(scores[~np.isnan(scores)])
    between = np.concatenate([known[:1] - 1, (known[:-1] + known[1:]) / 2, known[-1:] + 1])
    mates, others = (
        np.sort(scores[kind & ~np.isnan(scores)]) for kind in (pairs.same, ~pairs.same)
    )
    hits = len(mates) - np.searchsorted(mates, between) + np.searchsorted(others, between)
    threshold = float(between[::-1][np.argmax(hits[::-1])])
    judged = rightly(scores, pairs.same, threshold)
    thresholds = np.full(len(pairs.numbers), threshold)
    return FoldResult(pairs.numbers, pairs.fold_means(judged), thresholds, scores, judged)


PROTOCOLS: dict[str, Callable[..., FoldResult]] = {
    "sphereface": ten_fold,
    "facenet": facenet,
    "best": best_of_all,
}


def protocol(name: str) -> Callable[..., FoldResult]:
    """Return the protocol of that name.

    Raises
    ------
    SphereFaceError
        There is none.
    """
    if name not in PROTOCOLS:
        raise SphereFaceError(
            f'protocol "{name}"', expected=", ".join(PROTOCOLS), fix=nearest(name, PROTOCOLS)
        )
    return PROTOCOLS[name]


def _cosines(pairs: FoldedPairs) -> NDArray[np.float64]:
    norms = np.linalg.norm(pairs.left, axis=1) * np.linalg.norm(pairs.right, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("pk,pk->p", pairs.left, pairs.right) / norms
