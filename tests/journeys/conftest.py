from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def people(tmp_path, monkeypatch):
    """people(folder, names, pictures, size): made-up people, each a pattern of colours with noise.

    The current folder is an empty one.
    """
    monkeypatch.chdir(tmp_path)

    def make(folder, names, pictures, size):
        for name in names:
            rng = np.random.default_rng([ord(letter) for letter in name])
            Path(folder, name).mkdir(parents=True)
            pattern = cv2.resize(rng.uniform(50, 200, (6, 5, 3)), size[::-1])
            for number in range(1, pictures + 1):
                picture = np.clip(pattern + rng.normal(0, 12, pattern.shape), 0, 255)
                cv2.imwrite(f"{folder}/{name}/{name}_{number:04}.png", picture.astype(np.uint8))

    return make
