from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import Features
from sphereface.evaluation.templates import (
    aggregate,
    read_identities,
    read_templates,
    template_features,
)


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


def test_media_are_averaged_before_templates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 3)).astype(np.float32)
    # Template 7: a video of three frames (medium 2) and a still (medium 9). Template 30: medium 2.
    path = tmp_path / "name_tid_mid.txt"
    path.write_text("0.jpg 7 2\n1.jpg 7 2\n2.jpg 7 2\n3.jpg 7 9\n\n4 a.jpg 30 2\n")
    features = Features([f"loose/{n}.jpg" for n in ("3", "0", "1", "2", "4 a")], x, "f.npz")
    found = template_features(features, read_templates(path))
    assert found.path == ["30", "7"]
    np.testing.assert_allclose(found.features[0], unit(x[4]), atol=1e-6)
    expected = unit((x[1] + x[2] + x[3]) / 3 + x[0])
    np.testing.assert_allclose(found.features[1], expected, atol=1e-6)
    flat = unit(x[0] + x[1] + x[2] + x[3])
    assert np.abs(found.features[1] - flat).max() > 0.01
    assert found.rows(["7", "30", "8"]).tolist() == [1, 0, -1]


def test_aggregate_by_loops() -> None:
    rng = np.random.default_rng(1)
    x, template, medium = rng.normal(size=(40, 4)), rng.integers(0, 6, 40), rng.integers(0, 3, 40)
    found, names = aggregate(x, template, medium)
    for name, feature in zip(names, found, strict=True):
        own = template == int(name)
        media = [x[own & (medium == m)].mean(axis=0) for m in set(medium[own].tolist())]
        np.testing.assert_allclose(feature, unit(np.mean(media, axis=0)), atol=1e-6)


def test_identities(tmp_path: Path) -> None:
    path = tmp_path / "gallery.csv"
    path.write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n3,1,a.jpg\n3,1,b.jpg\n5,2,c.jpg\n")
    assert read_identities(path) == (["3", "5"], ["1", "2"])
    path.write_text("my pictures/a.jpg 4\nb.jpg 4\n")
    assert read_identities(path) == (["my pictures/a.jpg", "b.jpg"], ["4", "4"])


def test_bad_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for text, message in (
        ("a.jpg 3\n", "list.txt:1: 'a.jpg 3'; expected image template medium"),
        ("\n", "no templates"),
    ):
        path.write_text(text)
        with pytest.raises(SphereFaceError, match=message):
            read_templates(path)
    for text, message in (
        ("lonely\n", "'lonely'; expected item person"),
        ("", "no items"),
        ("3 1\n3 2\n", "3 is 1 and 2"),
    ):
        path.write_text(text)
        with pytest.raises(SphereFaceError, match=message):
            read_identities(path)
    path.write_text("a.jpg 1 1\n")
    with pytest.raises(SphereFaceError, match=r"f.npz: 1 images of the templates .* first a.jpg"):
        template_features(Features(["b.jpg"], np.ones((1, 2)), "f.npz"), read_templates(path))
