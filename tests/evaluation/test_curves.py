from __future__ import annotations

import numpy as np
import pytest

from sphereface.evaluation import roc
from sphereface.evaluation.curves import cmc_figure, roc_figure, score_figure


def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0.7, 0.1, 300), rng.normal(0.2, 0.1, 500)


def test_roc_on_a_logarithmic_axis() -> None:
    genuine, impostor = scores()
    figure = roc_figure(
        {"a": (roc(genuine, impostor), 500), "b": (roc(genuine - 0.2, impostor), 500)}
    )
    [axes] = figure.axes
    assert axes.get_xscale() == "log"
    first, second = axes.lines
    assert [first.get_label(), second.get_label()] == ["a", "b"]
    assert (
        first.get_linestyle() != second.get_linestyle() or first.get_color() != second.get_color()
    )
    far, tar = second.get_xdata(), second.get_ydata()
    assert far[0] == 1 / 500
    assert (np.diff(far) > 0).all()
    for rate, share in zip(far, tar, strict=True):
        # The greatest TAR with that many false accepts: down to just above the next impostor.
        count = round(rate * 500)
        ranked = np.append(np.sort(impostor)[::-1], -np.inf)
        assert share == np.mean(genuine - 0.2 > ranked[count])
    low, _ = axes.get_ylim()
    assert low < tar.min()


def test_a_curve_at_1_has_an_axis_to_be_read_by() -> None:
    [axes] = roc_figure({"a": (roc(np.array([0.8, 0.9]), np.array([0.1, 0.2])), 2)}).axes
    low, high = axes.get_ylim()
    assert low <= 0.98
    assert 1 < high < 1.01


def test_histogram_of_shares() -> None:
    genuine, impostor = scores()
    [axes] = score_figure(genuine, impostor, 0.45, bins=20).axes
    filled = [patch for patch in axes.patches if patch.get_fill()]
    others, mates = (patch.get_data().values for patch in filled)
    edges = filled[0].get_data().edges
    np.testing.assert_allclose(others, np.histogram(impostor, edges)[0] / 500)
    np.testing.assert_allclose(mates, np.histogram(genuine, edges)[0] / 300)
    assert axes.lines[0].get_xdata() == [0.45, 0.45]
    assert filled[0].get_hatch() != filled[1].get_hatch()


@pytest.mark.parametrize(("pairs", "bins"), [(9, 10), (400, 40), (3000, 100)])
def test_few_scores_have_few_bins(pairs: int, bins: int) -> None:
    rng = np.random.default_rng(0)
    [axes] = score_figure(rng.random(pairs), rng.random(3000), 0.5).axes
    assert len(axes.patches[0].get_data().values) == bins


def test_cmc() -> None:
    [axes] = cmc_figure({"10": np.array([0.5, 0.75, 1.0])}).axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 0.5], [2, 0.75], [3, 1]])
