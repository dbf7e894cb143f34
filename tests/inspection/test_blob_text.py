from __future__ import annotations

import numpy as np

from sphereface.inspection.blob_text import blob_text


def test_text():
    assert blob_text("x", np.array([[1.0, 3.0]], np.float32)) == (
        "x (1, 2) min 1 max 3 mean 2 std 1: 1 3"
    )
    assert blob_text("x", np.arange(9.0)).endswith(": 0 1 2 3 4 5 6 7 ...")
    assert blob_text("x", np.empty((0, 3))) == "x (0, 3)"
