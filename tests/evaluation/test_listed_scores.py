from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import Features, PairList, area, equal_error_rate, roc, tar_at_far
from sphereface.evaluation import listed_scores as module
from sphereface.evaluation.listed_scores import score_list


def test_cosines_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    rng = np.random.default_rng(0)
    person = rng.integers(0, 6, 40)
    values = rng.normal(size=(6, 5))[person] + 0.6 * rng.normal(size=(40, 5))
    features = Features([str(i) for i in range(40)], values.astype(np.float32), "f.npz")
    left, right = rng.integers(0, 40, (2, 200))
    same = person[left] == person[right]
    pairs = PairList([str(i) for i in left], [str(i) for i in right], same, np.ones(200, int))
    found = score_list(features, pairs, [0.1])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    np.testing.assert_allclose(found.scores, (unit[left] * unit[right]).sum(1), atol=1e-6)
    genuine, impostor = found.scores[same], found.scores[~same]
    assert found.points == tar_at_far(genuine, impostor, [0.1])
    assert found.area == area(genuine, impostor)
    assert found.eer == equal_error_rate(roc(genuine, impostor))
    assert found.to_dict()["pairs"] == 200
    pairs.left[3] = pairs.right[5] = "unknown"
    with pytest.raises(SphereFaceError, match="f.npz: unknown, and 0 other names of the list"):
        score_list(features, pairs)
