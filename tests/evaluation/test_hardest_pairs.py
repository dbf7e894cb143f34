from __future__ import annotations

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.evaluation import FoldResult
from sphereface.evaluation.hardest_pairs import hardest_pairs, hardest_pairs_figure

SCORES = np.array([0.9, 0.1, np.nan, 0.4, 0.8, -0.2, 0.3, 0.7])
SAME = np.array([True, True, True, True, False, False, False, False])


def result() -> FoldResult:
    right = np.where(SAME, SCORES > 0.35, SCORES < 0.35)
    return FoldResult(np.array([1]), np.array([0.6]), np.array([0.35]), SCORES, right)


def test_the_worst_of_either_kind_first() -> None:
    found = hardest_pairs(result(), SAME, count=2)
    assert found.genuine.tolist() == [1, 3]
    assert found.impostor.tolist() == [4, 7]
    assert hardest_pairs(result(), SAME).genuine.tolist() == [1, 3, 0]


def test_figure() -> None:
    left, right = ([f"p{i}/{side}$_{i}.jpg" for i in range(8)] for side in "lr")

    def read(name: str) -> np.ndarray:
        if name == left[4]:
            raise SphereFaceError("gone")
        return np.full((4, 4, 3), int(name.split("_")[1][0]), np.uint8)

    figure = hardest_pairs_figure(hardest_pairs(result(), SAME, 2), result(), left, right, read)
    grid = np.array(figure.axes).reshape(2, 4)
    shown = [
        [axes.images[0].get_array()[0, 0, 0] if axes.images else None for axes in row]
        for row in grid
    ]
    assert shown == [[1, 1, None, 4], [3, 3, 7, 7]]
    assert grid[0, 0].get_title("left") == "one person: 0.100, wrong"
    assert grid[1, 0].get_title("left") == "one person: 0.400, right"
    assert grid[0, 2].get_title("left") == "two persons: 0.800, wrong"
    assert grid[0, 2].texts[0].get_text() == "no picture"
    assert grid[0, 0].texts[0].get_text() == r"l\$_1.jpg"
    figure.canvas.draw()  # a bad formula would raise
