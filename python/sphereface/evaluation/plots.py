"""Figures of features, drawn without a display and without pyplot's global state.

matplotlib is an extra, imported here only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphereface.extras import require
from sphereface.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "Embedding", "embedding_figure", "new_figure", "save_png"]

# Okabe and Ito's colours, told apart with colour-blind eyes too; more classes start again.
COLOURS = (
    "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#000000", "#F0E442",
)  # fmt: skip


@dataclass(frozen=True)
class Embedding:
    """One panel: the features of a network with two of them.

    Attributes
    ----------
    title : str
    features : ndarray of shape (S, 2)
    label : ndarray of shape (S,), int
        Row of `weight` that is the sample's class.
    weight : ndarray of shape (N, 2)
        Class weights of the head; only their directions are drawn.
    names : sequence of N str
        The classes, for the legend.
    """

    title: str
    features: NDArray[np.floating]
    label: NDArray[np.integer]
    weight: NDArray[np.floating]
    names: Sequence[str]


def embedding_figure(panels: Sequence[Embedding]) -> Figure:
    """Draw each panel's features above the same features on the unit circle.

    The class weights are rays from the origin, in the colour of their class: with normalised
    weights a sample belongs to the class whose ray is nearest in angle.

    Parameters
    ----------
    panels : sequence of Embedding
        Side by side, in this order; the legend is that of the first.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure((5 * len(panels), 10))
    axes = figure.subplots(2, len(panels), squeeze=False)
    for column, panel in enumerate(panels):
        radius = float(np.linalg.norm(panel.features, axis=1).max())
        _scatter(axes[0, column], panel, panel.features, radius)
        axes[0, column].set_title(panel.title, fontsize=10)
        on_circle = panel.features / np.linalg.norm(panel.features, axis=1, keepdims=True)
        _scatter(axes[1, column], panel, on_circle, 1.0)
        axes[1, column].set_title("the same, on the unit circle", fontsize=10)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), markerscale=3)
    return figure


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure of (width, height) inches that is drawn without a display."""
    canvas = require("matplotlib.backends.backend_agg", "evaluation").FigureCanvasAgg
    figure: Figure = require("matplotlib.figure", "evaluation").Figure(
        figsize=size, layout="constrained"
    )
    canvas(figure)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 120) -> None:
    """Write `figure` as PNG; an existing file is replaced when the new one is complete."""
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def _scatter(axes: Axes, panel: Embedding, points: NDArray[np.floating], radius: float) -> None:
    rays = radius * panel.weight / np.linalg.norm(panel.weight, axis=1, keepdims=True)
    for index, (ray, name) in enumerate(zip(rays, panel.names, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        own = points[panel.label == index]
        axes.plot([0, ray[0]], [0, ray[1]], color=colour, linewidth=1)
        axes.scatter(own[:, 0], own[:, 1], s=6, color=colour, alpha=0.6, linewidths=0, label=name)
    axes.set_xlim(-1.05 * radius, 1.05 * radius)
    axes.set_ylim(-1.05 * radius, 1.05 * radius)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=8)
