"""What the runs gave: a table, a picture and a record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lfw.lists import PAIRS, write_lines
from lfw.nets import METHODS, Settings
from lfw.run import Run
from sphereface.evaluation import read_pairs, roc
from sphereface.evaluation.plots import COLOURS, new_figure, save_png

PLAIN = "m=1"  # what a margin is compared with


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return means and standard deviations over the seeds, in %, of the runs that are whole."""
    lines = [f"{'':10}{'accuracy':>16}{'against ' + PLAIN:>18}{'AUC':>16}{'the official 600':>20}"]
    by_seed = {(r["method"], r["seed"]): r for r in results}
    for method in METHODS:
        own = [r for r in results if r["method"] == method]
        if not own:
            continue
        gains = [
            r["drawn"]["accuracy"] - by_seed[PLAIN, r["seed"]]["drawn"]["accuracy"]
            for r in own
            if (PLAIN, r["seed"]) in by_seed
        ]
        cells = [[r[kind][key] for r in own] for kind, key in
                 (("drawn", "accuracy"), ("drawn", "auc"), ("official", "accuracy"))]  # fmt: skip
        cells.insert(1, [] if method == PLAIN else gains)
        texts = [
            f"{spread(values):>{w}}" for values, w in zip(cells, (16, 18, 16, 20), strict=True)
        ]
        lines.append(f"{method:10}{''.join(texts)}   {len(own)} seeds")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return mean +- standard deviation of a sample, in %."""
    if not values:
        return ""
    deviation = f" +- {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.2f}{deviation}"


def draw(runs: Sequence[Run], path: Path) -> None:
    """Write the curves: accepted pairs at each false accept rate, accuracy over the iterations."""
    figure = new_figure((11, 4.6))
    left, right = figure.subplots(1, 2)
    rates = np.geomspace(1e-3, 1, 200)
    for number, method in enumerate(METHODS):
        own = [run for run in runs if run.method == method]
        if not own:
            continue
        accepted, accuracies = [], []
        for run in own:
            _, scores, same = run.judge("drawn")
            curve = roc(scores[same], scores[~same])
            accepted.append(np.interp(rates, curve.far, curve.tar))
            accuracies.append(json.loads(run.result.read_text())["curve"])
        told = {"color": COLOURS[number], "label": method}
        left.plot(rates, np.mean(accepted, axis=0), **told)
        at, values = np.array(accuracies).transpose(2, 0, 1)
        right.plot(at[0], 100 * values.mean(axis=0), **told)
        right.fill_between(
            at[0], *(100 * f(values, axis=0) for f in (np.min, np.max)),
            color=COLOURS[number], alpha=0.15, linewidth=0,
        )  # fmt: skip
    seeds = len({run.seed for run in runs})
    left.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", ylim=(0, 1))
    left.set_title(f"People not trained on, mean of {seeds} seeds", fontsize=10)
    right.set(xlabel="iteration", ylabel="verification accuracy, %")
    right.set_title("Mean, and from the lowest to the highest seed", fontsize=10)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save_png(figure, path)


def report(work: Path, settings: Settings, runs: Sequence[Run]) -> None:
    """Print the table and write recipe.json, of the runs that are whole."""
    results = [json.loads(run.result.read_text()) for run in runs if run.result.exists()]
    write_lines(
        work / "recipe.json", [json.dumps(facts(work, settings) | {"runs": results}, indent=1)]
    )
    print(f"{table(results)}\n{work / 'recipe.json'}", flush=True)


def facts(work: Path, settings: Settings) -> dict[str, Any]:
    """Return what was trained and verified."""
    labels = (work / "train.txt").read_text().split()[1::2]
    pairs = {f"pairs_{name}": len(read_pairs(work / file).same) for name, file in PAIRS.items()}
    people = {"people": len(set(labels)), "images": len(labels)}
    return {"settings": asdict(settings), "trained": people, **pairs}
