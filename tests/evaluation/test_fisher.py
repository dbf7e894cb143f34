from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation.fisher import angular_fisher_score


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def by_loops(features: np.ndarray, label: np.ndarray) -> float:
    mean = sum(features) / len(features)
    within = between = 0.0
    for one in set(label.tolist()):
        own = [x for x, y in zip(features, label, strict=True) if y == one]
        centre = sum(own) / len(own)
        within += sum(1 - cosine(x, centre) for x in own)
        between += len(own) * (1 - cosine(centre, mean))
    return within / between


@pytest.mark.parametrize("normalize", [False, True])
def test_by_loops(normalize: bool) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, 60)
    features = rng.normal(size=(5, 4))[label] + 0.5 * rng.normal(size=(60, 4))
    features *= rng.uniform(0.2, 5, (60, 1))
    found = angular_fisher_score(features, label, normalize=normalize)
    used = features / np.linalg.norm(features, axis=1, keepdims=True) if normalize else features
    assert found == pytest.approx(by_loops(used, label), rel=1e-12)
    other = angular_fisher_score(features, label, normalize=not normalize)
    assert abs(found - other) > 1e-3


def test_closed_form() -> None:
    """Two classes at +-a of their means, which stand at +-b of the mean of all."""
    a, b = np.radians([10, 40])
    angles = [b - a, b + a, -b - a, -b + a]
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    expected = (1 - np.cos(a)) / (1 - np.cos(b))
    assert angular_fisher_score(features, list("xxyy")) == pytest.approx(expected, rel=1e-12)


def test_bad_arguments() -> None:
    with pytest.raises(SphereFaceError, match="1 class; expected at least two"):
        angular_fisher_score(np.ones((3, 2)), [1, 1, 1])
    with pytest.raises(SphereFaceError, match="has no direction"):
        angular_fisher_score([[1, 0], [-1, 0], [0, 1]], [0, 0, 1])
    with pytest.raises(SphereFaceError, match=r"\(2, 2\) and labels of shape \(3,\)"):
        angular_fisher_score(np.ones((2, 2)), [0, 1, 2])
