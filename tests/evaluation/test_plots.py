from __future__ import annotations

from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np

from sphereface.evaluation.plots import Embedding, embedding_figure, save_png


def panel(title: str) -> Embedding:
    rng = np.random.default_rng(0)
    angle = np.radians([0, 120, 240])
    weight = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    label = np.arange(60) % 3
    features = 3 * weight[label] + rng.normal(size=(60, 2))
    return Embedding(title, features, label, weight, ["a", "b", "c"])


def test_points_rays_and_legend() -> None:
    data = panel("left")
    figure = embedding_figure([data, panel("right")])
    plane, right, circle, _ = figure.axes
    assert [plane.get_title(), right.get_title()] == ["left", "right"]
    for index, (points, ray) in enumerate(zip(plane.collections, plane.lines, strict=True)):
        np.testing.assert_allclose(points.get_offsets(), data.features[data.label == index])
        start, end = ray.get_xydata()
        assert start.tolist() == [0, 0]
        radius = np.linalg.norm(data.features, axis=1).max()
        np.testing.assert_allclose(end, radius * data.weight[index] / 2)
    for points in circle.collections:
        np.testing.assert_allclose(np.linalg.norm(points.get_offsets(), axis=1), 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_picture_on_disk_without_pyplot(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    save_png(embedding_figure([panel("one")]), path, dpi=50)
    picture = matplotlib.image.imread(path)
    assert picture.shape == (500, 250, 4)
    assert picture[..., :3].std() > 0.05
    assert plt.get_fignums() == []
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
