from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.recognition import Threshold, calibrate, read_calibration
from sphereface.recognition.calibration import write_calibration


def test_the_smallest_that_keeps_the_rate(rng):
    scores = np.concatenate([rng.normal(0.6, 0.1, 500), rng.normal(0.1, 0.1, 2000)])
    same = np.arange(2500) < 500
    threshold = calibrate(scores, same, 0.01, embedder="e", source="pairs.txt")
    impostors = np.sort(scores[~same])
    assert (impostors >= threshold.value).sum() <= 20
    # The next smaller score that occurs would let a twenty-first through.
    lower = scores[scores < threshold.value].max()
    assert (impostors >= lower).sum() > 20
    assert threshold.far == (impostors >= threshold.value).mean()
    assert threshold.tar == (scores[same] >= threshold.value).mean()
    assert (threshold.genuine, threshold.impostors) == (500, 2000)
    assert "pairs.txt for a false accept rate of 0.01" in threshold.origin
    assert "roughly" in threshold.origin


def test_too_few_pairs():
    scores, same = np.linspace(0, 1, 20), np.arange(20) >= 10
    with pytest.raises(SphereFaceError, match=r"10 pairs of different .*expected 1000 or more"):
        calibrate(scores, same, 0.001, embedder="e", source="folder")
    with pytest.raises(SphereFaceError, match="a false accept rate of 1"):
        calibrate(scores, same, 1, embedder="e", source="folder")


def test_written_and_read(tmp_path):
    threshold = Threshold(0.31, "calibrated on x", "abc", 0.1, 0.09, 0.8, 30, 40)
    write_calibration(tmp_path / "c.json", threshold)
    assert read_calibration(tmp_path / "c.json") == threshold
    threshold.check("abc")
    with pytest.raises(SphereFaceError, match="a threshold of another model"):
        threshold.check("def")
    Threshold(0.5, "--threshold").check("anything")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"value": "x", "origin": "y"}', '{"a": 1}', '{"value": NaN, "origin": "y"}',
     '{"value": Infinity, "origin": "y"}'],
)  # fmt: skip
def test_what_is_no_calibration(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(SphereFaceError, match=r"c\.json: .*calibra"):
        read_calibration(tmp_path / "c.json")
