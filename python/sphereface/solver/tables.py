"""A training's numbers as a table: CSV or JSON lines, a row for each display and each test.

Source: the CSV files of Caffe's tools/extra/parse_log.py. What differs: written while the training
runs; one table for the train net and the test nets, told apart by the column ``net``.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sphereface.errors import SphereFaceError
from sphereface.solver.records import IterationRecord, Score, SolverCallback, TestRecord

if TYPE_CHECKING:
    from sphereface.caffe import Net
    from sphereface.solver.solver import Solver

__all__ = ["TableLog", "named_values"]

_SUFFIXES = (".csv", ".jsonl")


class TableLog(SolverCallback):
    """Writes ``iteration, net, seconds, lr, loss`` and every output, row by row.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.jsonl``.
    append : bool
        Go on with the file, for a resumed training.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._csv = Path(path).suffix.lower() == ".csv"
        if Path(path).suffix.lower() not in _SUFFIXES:
            raise SphereFaceError(
                "no table's name", where=os.fspath(path), expected=" or ".join(_SUFFIXES)
            )
        if append and self._csv and Path(path).is_file():
            with Path(path).open(newline="", encoding="utf-8") as before:
                self._columns = next(csv.reader(before), [])
        else:
            self._columns = []
        self._stream: TextIO = Path(path).open(  # noqa: SIM115 - closed by `close`
            "a" if append else "w", newline="", encoding="utf-8"
        )
        self._clock, self._start = clock, clock()

    def on_solve(self, solver: Solver) -> None:
        """Write the header of a new CSV file: all outputs of all nets."""
        if self._csv and not self._columns:
            nets = [solver.net, *solver.test_nets]
            outputs = dict.fromkeys(name for net in nets for name in _columns_of(net))
            added = [name for listener in solver.callbacks for name in listener.columns(solver)]
            outputs.update(dict.fromkeys(added))
            self._columns = ["iteration", "net", "seconds", "lr", "loss", *outputs]
            csv.writer(self._stream).writerow(self._columns)

    def on_iteration(self, record: IterationRecord) -> None:
        """Write a row for an iteration that is to be displayed."""
        if record.display:
            self._row(
                record.iteration,
                "train",
                {"lr": record.rate, "loss": record.smoothed_loss, **named_values(record.scores)},
            )

    def on_test(self, record: TestRecord) -> None:
        """Write a row for a test net."""
        loss = {} if record.loss is None else {"loss": record.loss}
        self._row(record.iteration, f"test{record.net}", {**loss, **named_values(record.scores)})

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _row(self, iteration: int, net: str, values: dict[str, float]) -> None:
        seconds = round(self._clock() - self._start, 3)
        row: dict[str, Any] = {"iteration": iteration, "net": net, "seconds": seconds}
        row.update((name, float(f"{value:.7g}")) for name, value in values.items())  # a float32
        if self._csv:
            # A net that changed since the file was begun adds no columns to it.
            csv.DictWriter(self._stream, self._columns, extrasaction="ignore").writerow(row)
        else:
            # JSON has no NaN; null says that there is no number.
            row = {k: None if _not_finite(v) else v for k, v in row.items()}
            self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()


def named_values(scores: Sequence[Score]) -> dict[str, float]:
    """Return the values by name; further values of an output are called ``name[1]`` and so on."""
    seen: Counter[str] = Counter()
    values = {}
    for score in scores:
        number = seen[score.name]
        values[f"{score.name}[{number}]" if number else score.name] = score.value
        seen[score.name] += 1
    return values


def _columns_of(net: Net) -> Iterator[str]:
    for name in net.outputs:
        for number in range(math.prod(net.blob_shapes[name])):
            yield f"{name}[{number}]" if number else name


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
