from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.inference.save import save_blobs


def test_files(tmp_path, rng):
    blobs = {"fc5": rng.normal(size=(2, 3)).astype(np.float32)}
    save_blobs(tmp_path / "a.npy", blobs)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), blobs["fc5"])
    save_blobs(tmp_path / "a.npz", {**blobs, "x/y": np.ones(2)}, ["p.png", "ä.png"])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert sorted(stored) == ["fc5", "paths", "x/y"]
        assert list(stored["paths"]) == ["p.png", "ä.png"]
    with pytest.raises(SphereFaceError, match=r"for 2 blobs"):
        save_blobs(tmp_path / "b.npy", {**blobs, "y": blobs["fc5"]})
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "a.npz"}
