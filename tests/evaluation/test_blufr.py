from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from sphereface.errors import SphereFaceError
from sphereface.evaluation.blufr import blufr, read_blufr_config

IMAGES = 120


def write_config(path: Path, **changes: object) -> dict:
    rng = np.random.default_rng(0)
    label = rng.integers(1, 25, IMAGES)
    content: dict = {"labels": label[:, None].astype(float)}
    cells = {
        name: np.empty((3, 1), object)
        for name in ("trainIndex", "testIndex", "galIndex", "probIndex")
    }
    for trial in range(3):
        order = rng.permutation(24) + 1
        train = np.flatnonzero(np.isin(label, order[:6]))
        test = np.flatnonzero(np.isin(label, order[6:]))
        known = order[6:16]
        gallery = np.array(
            [np.flatnonzero(label == person)[0] for person in known if (label == person).any()]
        )
        probe = np.setdiff1d(test, gallery)
        for name, index in zip(cells, (train, test, gallery, probe), strict=True):
            cells[name][trial, 0] = index[:, None] + 1.0  # Matlab's indices
    content.update(cells)
    content.update(changes)
    savemat(path, content)
    return content


def features() -> np.ndarray:
    rng = np.random.default_rng(1)
    label = np.random.default_rng(0).integers(1, 25, IMAGES)
    return rng.normal(size=(25, 6))[label] + 0.4 * rng.normal(size=(IMAGES, 6))


@pytest.mark.parametrize("components", [None, 4])
def test_trials_by_loops(tmp_path: Path, components: int | None) -> None:
    content = write_config(tmp_path / "config.mat")
    config = read_blufr_config(tmp_path / "config.mat")
    label = content["labels"].ravel()
    found = blufr(features(), config, components, far=0.05, fpir=0.1)
    for trial in range(3):
        train, test, gallery, probe = (
            content[name][trial, 0].ravel().astype(int) - 1
            for name in ("trainIndex", "testIndex", "galIndex", "probIndex")
        )
        rows = features()
        if components:
            mean = rows[train].mean(axis=0)
            axes = np.linalg.svd(rows[train] - mean, full_matrices=False)[2][:components]
            rows = (rows - mean) @ axes.T
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        genuine, impostor = [], []
        for a in range(len(test)):
            for b in range(a):
                score = unit[test[a]] @ unit[test[b]]
                (genuine if label[test[a]] == label[test[b]] else impostor).append(score)
        threshold = sorted(impostor, reverse=True)[int(0.05 * len(impostor) + 0.5) - 1]
        assert found.vr[trial] == np.mean(np.array(genuine) >= threshold - 1e-6)
        tops, hits = [], []
        for p in probe:
            scores = unit[gallery] @ unit[p]
            own = label[gallery] == label[p]
            if not own.any():
                tops.append(scores.max())
            else:
                ahead = np.sum(scores[~own] >= scores[own].max())
                hits.append(scores[own].max() if ahead == 0 else -np.inf)
        threshold = sorted(tops, reverse=True)[int(0.1 * len(tops) + 0.5) - 1]
        assert found.dir[trial] == np.mean(np.array(hits) >= threshold - 1e-6)
    reported = found.to_dict()
    assert 0.3 < reported["vr_mean_minus_std"] < 1
    assert reported["vr_mean_minus_std"] == np.mean(found.vr) - np.std(found.vr, ddof=1)
    assert found.tables()[0].footer[0] == "mean - std"


def test_bad_configs(tmp_path: Path) -> None:
    path = tmp_path / "config.mat"
    savemat(path, {"labels": [1, 2]})
    with pytest.raises(SphereFaceError, match="no trainIndex, testIndex, galIndex, probIndex"):
        read_blufr_config(path)
    write_config(path, testIndex=np.array([[1.0], [IMAGES + 1.0]]))
    with pytest.raises(SphereFaceError, match="index of testIndex is out of range; expected 1 to"):
        read_blufr_config(path)
    write_config(path, testIndex=np.array([[1.0], [2.0]]))
    with pytest.raises(SphereFaceError, match="3, 1, 3, 3 trials; expected as many each"):
        read_blufr_config(path)
    path.write_bytes(b"no mat")
    with pytest.raises(SphereFaceError, match="no readable .mat"):
        read_blufr_config(path)
    write_config(path)
    config = read_blufr_config(path)
    with pytest.raises(SphereFaceError, match="expected one of each of the config's 120 images"):
        blufr(features()[:-1], config)
    with pytest.raises(SphereFaceError, match="9 components; expected 1 to 6"):
        blufr(features(), config, components=9)
    with pytest.raises(SphereFaceError, match="too few impostors for FAR 1e-07"):
        blufr(features(), config, far=1e-7)
