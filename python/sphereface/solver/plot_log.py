"""A picture of training logs: loss, lambda, learning rate and other outputs over iterations.

matplotlib is an extra, imported here only, without pyplot's global state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import atomic_path
from sphereface.solver.read_log import Curve, TrainingLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_picture", "log_figure", "save_figure"]

_SUFFIXES = (".png", ".svg")
# Okabe and Ito's colours, told apart with colour-blind eyes too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class _Line(NamedTuple):
    label: str
    curve: Curve
    faint: bool = False


class _Panel(NamedTuple):
    title: str
    logarithmic: bool
    wanted: Callable[[str], bool]


def _is_loss(name: str) -> bool:
    return "loss" in name.lower()


def _is_lambda(name: str) -> bool:
    return "lambda" in name.lower()


def _is_norm(name: str) -> bool:
    return name.endswith("/embedding_norm")


_PANELS = (
    _Panel("loss", False, _is_loss),
    _Panel("lambda", True, _is_lambda),
    _Panel("learning rate", True, lambda name: name == "lr"),
    _Panel("norm", False, _is_norm),
    _Panel(
        "outputs",
        False,
        lambda name: not (_is_loss(name) or _is_lambda(name) or _is_norm(name) or name == "lr"),
    ),
)


def log_figure(logs: Sequence[TrainingLog]) -> Figure:
    """Draw the curves of logs over each other, a panel for each kind there is.

    Train nets are drawn in lines, the losses of single iterations faintly; test nets dashed.

    Parameters
    ----------
    logs : sequence of TrainingLog

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    SphereFaceError
        matplotlib is missing.
    """
    canvas = require("matplotlib.backends.backend_agg", "demo").FigureCanvasAgg
    panels = [
        (panel, lines)
        for panel in _PANELS
        if (lines := [line for log in logs for line in _lines(log, panel, len(logs) > 1)])
    ]
    size = (9, 1 + 2.4 * len(panels))
    figure: Figure = require("matplotlib.figure", "demo").Figure(figsize=size, layout="constrained")
    canvas(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for ax, (panel, lines) in zip(axes, panels, strict=True):
        _draw(ax, panel, lines)
    axes[-1].set_xlabel("iteration")
    axes[0].set_title(", ".join(dict.fromkeys(log.name or Path(log.source).name for log in logs)))
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` as PNG or SVG; an existing file is replaced when the new one is complete."""
    check_picture(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower(), dpi=120)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise unless `path` names a picture that can be written."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise SphereFaceError("no picture's name", where=os.fspath(path), expected="NAME.png, .svg")
    if not Path(path).parent.is_dir():
        raise SphereFaceError("the folder does not exist", where=os.fspath(path))


def _lines(log: TrainingLog, panel: _Panel, several: bool) -> Iterator[_Line]:
    of = f" ({Path(log.source).stem})" if several else ""
    for name, curve in log.train.items():
        if panel.wanted(name):
            if name != "loss" and set(curve) <= set(log.train.get("loss", ())):
                continue  # without average_loss, the loss is the output's value
            of_one = name != "loss" and not name.endswith("/loss_without_margin")
            yield _Line(f"{name}{of}", curve, faint=of_one and _is_loss(name))
    for net, curves in log.tests.items():
        for name, curve in curves.items():
            if panel.wanted(name):
                yield _Line(f"test #{net} {name}{of}", curve)


def _draw(axes: Axes, panel: _Panel, lines: Sequence[_Line]) -> None:
    for number, line in enumerate(lines):
        iterations, values = zip(*line.curve, strict=True)
        axes.plot(
            iterations,
            values,
            color=_COLOURS[number % len(_COLOURS)],
            linewidth=0.8 if line.faint else 1.6,
            alpha=0.5 if line.faint else 1.0,
            linestyle="--" if line.label.startswith("test #") else "-",
            marker="." if len(values) == 1 else None,
            label=line.label,
        )
    axes.set_ylabel(panel.title)
    # A logarithm of 0 (base_lr 0, lambda without annealing) would leave the panel empty.
    if panel.logarithmic and all(value > 0 for line in lines for _, value in line.curve):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
