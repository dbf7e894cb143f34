"""Figures of results: ROC on a logarithmic FAR, histograms of scores, CMC.

matplotlib is an extra; figures are made without pyplot's global state. Lines differ by dash as well
as by colour, so that they are told apart in grey.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sphereface.evaluation.plots import COLOURS, new_figure
from sphereface.evaluation.roc import Roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cmc_figure", "histogram_figure", "roc_figure", "score_figure"]

_DASHES = ("-", "--", "-.", ":")
_SIZE = (6.4, 4.4)
_MOST_BINS = 100


def roc_figure(curves: Mapping[str, tuple[Roc, int]]) -> Figure:
    """Draw TAR over FAR, the FAR on a logarithmic axis.

    Parameters
    ----------
    curves : mapping of str to (Roc, int)
        Name, and the curve with its number of impostors: a rate below 1 / impostors is nothing that
        was measured, and the curve stops there.
    """
    figure = new_figure(_SIZE)
    axes = figure.subplots()
    lowest = 1.0
    for (name, (curve, impostors)), style in zip(curves.items(), _styles(), strict=False):
        far, tar = _best_at_each_rate(curve, impostors)
        axes.plot(far, tar, label=name, drawstyle="steps-post", **style)
        lowest = min(lowest, float(tar[0]))
    axes.set_xscale("log")
    axes.set_xlim(min(1 / n for _, n in curves.values()), 1)
    # A curve that is nowhere below 1 is not spread over a thousandth.
    below = max(0.0, min(lowest - 0.1 * (1 - lowest), 0.98))
    axes.set_ylim(below, 1 + 0.03 * (1 - below))
    axes.set_xlabel("false accept rate")
    axes.set_ylabel("true accept rate")
    _finish(axes, len(curves))
    return figure


def _best_at_each_rate(
    curve: Roc, impostors: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rates that were measured, and the greatest TAR at each."""
    last = np.append(np.diff(curve.far) > 0, True) & (curve.far >= 0.5 / impostors)
    return curve.far[last], curve.tar[last]


def score_figure(
    genuine: NDArray[np.floating],
    impostor: NDArray[np.floating],
    threshold: float,
    bins: int | None = None,
) -> Figure:
    """Draw how often each score occurs among pairs of one and of two persons.

    Parameters
    ----------
    genuine, impostor : ndarray
        Scores.
    threshold : float
        Drawn as a line, e.g. the mean of the folds'.
    bins : int, optional
        By default twice the root of the smaller number of scores, 10 to 100.
    """
    if bins is None:
        bins = int(np.clip(2 * np.sqrt(min(len(genuine), len(impostor))), 10, _MOST_BINS))
    low = float(min(genuine.min(), impostor.min()))
    high = float(max(genuine.max(), impostor.max()))
    edges = np.linspace(low, high, bins + 1)
    counts = [np.histogram(scores, edges)[0] for scores in (genuine, impostor)]
    return histogram_figure(edges, counts[0], counts[1], threshold)


def histogram_figure(
    edges: NDArray[np.floating],
    genuine: NDArray[np.integer],
    impostor: NDArray[np.integer],
    threshold: float,
) -> Figure:
    """Draw counts that were made already, as shares of their kind."""
    figure = new_figure(_SIZE)
    axes = figure.subplots()
    kinds = ((impostor, "two persons", COLOURS[5], "//"), (genuine, "one person", COLOURS[4], ""))
    for counts, name, colour, hatch in kinds:
        shares = counts / counts.sum()
        axes.stairs(shares, edges, fill=True, alpha=0.45, color=colour, hatch=hatch, label=name)
        axes.stairs(shares, edges, color=colour)
    used = np.flatnonzero(genuine + impostor)
    axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set_xlabel("score")
    axes.set_ylabel("share of pairs")
    _finish(axes, 2)
    return figure


def cmc_figure(curves: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Draw the share of probes found at a rank of at most r.

    Parameters
    ----------
    curves : mapping of str to ndarray of shape (R,)
        Shares at rank 1, 2 ... R.
    """
    figure = new_figure(_SIZE)
    axes = figure.subplots()
    for (name, shares), style in zip(curves.items(), _styles(), strict=False):
        axes.plot(np.arange(1, len(shares) + 1), shares, label=name, **style)
    axes.set_xscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("share of probes found")
    axes.xaxis.set_major_formatter("{x:g}")
    _finish(axes, len(curves))
    return figure


def _styles() -> Iterator[dict[str, Any]]:
    order = [COLOURS[4], COLOURS[5], COLOURS[2], COLOURS[3], COLOURS[0]]
    return itertools.chain.from_iterable(
        [{"color": colour, "linestyle": dash} for colour in order] for dash in _DASHES
    )


def _finish(axes: Axes, entries: int) -> None:
    axes.grid(alpha=0.3)
    if entries > 1:
        axes.legend()
