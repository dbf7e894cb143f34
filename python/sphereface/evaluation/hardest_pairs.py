"""The pairs that a model is most wrong about, as pictures beside each other.

Where a figure is low it is these that say why: a wrong label, a child, a profile. The pictures come
from a reader that is handed in; this package opens none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.plots import new_figure
from sphereface.evaluation.ten_fold import FoldResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["HardestPairs", "hardest_pairs", "hardest_pairs_figure"]


@dataclass(frozen=True)
class HardestPairs:
    """Indices of pairs, the hardest first.

    Attributes
    ----------
    genuine : ndarray of int64
        Pairs of one person, by rising score.
    impostor : ndarray of int64
        Pairs of two persons, by falling score.
    """

    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]


def hardest_pairs(folds: FoldResult, same: NDArray[np.bool_], count: int = 8) -> HardestPairs:
    """Return the `count` hardest pairs of either kind; pairs without a score are left out."""
    order = np.argsort(folds.scores, kind="stable")
    order = order[~np.isnan(folds.scores[order])]
    return HardestPairs(order[same[order]][:count], order[~same[order]][::-1][:count])


def hardest_pairs_figure(
    pairs: HardestPairs,
    folds: FoldResult,
    left: list[str],
    right: list[str],
    read: Callable[[str], NDArray[np.uint8]],
) -> Figure:
    """Draw the pairs, one person's in the left half and two persons' in the right.

    Parameters
    ----------
    pairs : HardestPairs
    folds : FoldResult
        Whose scores are written beside them, and whether they were judged rightly.
    left, right : list of str
        Names of the images of all pairs.
    read : callable
        Returns an image by name: RGB uint8 (H, W, 3). A SphereFaceError leaves a gap.
    """
    rows = max(len(pairs.genuine), len(pairs.impostor))
    figure = new_figure((6.6, 1.75 * rows + 0.4))
    grid = figure.subplots(rows, 4, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    halves = ((pairs.genuine, 0, "one person"), (pairs.impostor, 2, "two persons"))
    for indices, column, kind in halves:
        for row, index in enumerate(indices.tolist()):
            for axes, name in zip(
                grid[row, column : column + 2], (left[index], right[index]), strict=True
            ):
                _show(axes, read, name)
            verdict = "right" if folds.right[index] else "wrong"
            grid[row, column].set_title(
                f"{kind}: {folds.scores[index]:.3f}, {verdict}", fontsize=8, loc="left"
            )
    return figure


def _show(axes: Axes, read: Callable[[str], NDArray[np.uint8]], name: str) -> None:
    try:
        axes.imshow(read(name))
    except SphereFaceError:
        axes.text(0.5, 0.5, "no picture", ha="center", fontsize=7, transform=axes.transAxes)
    # A dollar sign would start a formula.
    label = name.rpartition("/")[2].replace("$", r"\$")
    axes.text(0.5, -0.02, label, ha="center", va="top", fontsize=6, transform=axes.transAxes)
