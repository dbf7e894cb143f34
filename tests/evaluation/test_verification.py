from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.evaluation import read_pair_features, ten_fold, verify
from sphereface.evaluation.run_record import write_json

GOLDEN = Path(__file__).parents[1] / "golden" / "lfw_protocol" / "features.npz"


def test_one_call_for_all_figures() -> None:
    pairs = read_pair_features(GOLDEN)
    found = verify(pairs)
    folds = ten_fold(pairs.left, pairs.right, pairs.same, pairs.fold)
    np.testing.assert_array_equal(found.folds.scores, folds.scores)
    summary = found.to_dict()
    assert summary["mean_accuracy"] == folds.mean
    assert summary["eer"]["value"] == found.eer.value
    assert 0.5 < summary["auc"]["value"] < 1
    assert [p["target"] for p in summary["tar_at_far"]] == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    assert found.intervals == []  # nobody is named


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": np.nan})
    assert list(tmp_path.iterdir()) == []
