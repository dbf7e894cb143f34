"""Curves of a training log: Caffe's own, old or new, this package's, or its tables (CSV, JSONL).

Source: the lines of solver.cpp and sgd_solver.cpp, as tools/extra/parse_log.py reads them. What
differs: a resumed run replaces what was logged after its snapshot; values that share a name are
told apart; a loss that is no number is kept, as NaN.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from sphereface.errors import SphereFaceError
from sphereface.files import open_regular

__all__ = ["Curve", "TrainingLog", "read_log"]

Curve: TypeAlias = list[tuple[int, float]]
"""(iteration, value), iterations rising."""

_DISPLAY = re.compile(r"Iteration (\d+)(?: \(.*\))?, loss = (\S+)")
_RATE = re.compile(r"Iteration (\d+), lr = (\S+)")
_TESTING = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (.+?) = (\S+)")
_TEST_LOSS = re.compile(r"Test loss: (\S+)")
_NET = re.compile(r"\] Solving (.+)$")
_NOT_CURVES = ("iteration", "net", "seconds")


@dataclass
class TrainingLog:
    """What a log tells.

    Attributes
    ----------
    source : str
        The file.
    name : str
        The net's name, where the log has it.
    train : dict of str to Curve
        ``loss``, ``lr`` and the outputs of the train net.
    tests : dict of int to dict
        The same (without ``lr``) by test net.
    """

    source: str
    name: str = ""
    train: dict[str, Curve] = field(default_factory=dict)
    tests: dict[int, dict[str, Curve]] = field(default_factory=dict)

    def add(self, net: int | None, name: str, iteration: int, value: float) -> None:
        """Add a point to a curve of a test net, or of the train net (None)."""
        curves = self.train if net is None else self.tests.setdefault(net, {})
        curve = curves.setdefault(name, [])
        while curve and curve[-1][0] >= iteration:
            curve.pop()
        curve.append((iteration, value))


def read_log(path: str | os.PathLike[str]) -> TrainingLog:
    """Read the curves of a log; the suffixes ``.csv`` and ``.jsonl`` mean tables.

    Raises
    ------
    SphereFaceError
        There are none in it, or it cannot be read.
    """
    source = os.fspath(path)
    log, suffix = TrainingLog(source), Path(path).suffix.lower()
    # Logs of Caffe hold file names in whatever bytes the file system had.
    with (
        open_regular(path, "log") as stream,
        io.TextIOWrapper(stream, "utf-8", "replace", newline="") as lines,
    ):
        if suffix == ".csv":
            _read_table(log, csv.DictReader(lines))
        elif suffix == ".jsonl":
            _read_table(log, map(_json_row, lines))
        else:
            _read_lines(log, lines)
    if not log.train and not log.tests:
        raise SphereFaceError(
            "no iterations in it",
            where=source,
            expected='lines such as "Iteration 100, loss = 2.3", or a .csv or .jsonl of training',
        )
    return log


def _read_lines(log: TrainingLog, lines: Iterable[str]) -> None:
    train_iteration = test_iteration = test_net = 0
    seen: Counter[str] = Counter()
    for line in lines:
        if match := _OUTPUT.search(line):
            phase, name, value = match.groups()
            seen[name] += 1
            if seen[name] > 1:
                name = f"{name}[{seen[name] - 1}]"
            test = phase == "Test"
            log.add(
                test_net if test else None,
                name,
                test_iteration if test else train_iteration,
                _number(value),
            )
        elif match := _DISPLAY.search(line):
            seen.clear()
            train_iteration = int(match[1])
            log.add(None, "loss", train_iteration, _number(match[2]))
        elif match := _RATE.search(line):
            log.add(None, "lr", int(match[1]), _number(match[2]))
        elif match := _TESTING.search(line):
            seen.clear()
            test_iteration, test_net = int(match[1]), int(match[2])
        elif match := _TEST_LOSS.search(line):
            log.add(test_net, "loss", test_iteration, _number(match[1]))
        elif match := _NET.search(line):
            log.name = match[1].strip()


def _json_row(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    return row if isinstance(row, dict) else {}


def _read_table(log: TrainingLog, rows: Iterable[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows, 1):
        try:
            net = str(row["net"])
            test = None if net == "train" else int(net.removeprefix("test"))
            for name, value in row.items():
                if name not in _NOT_CURVES and value not in (None, ""):
                    log.add(test, name, int(row["iteration"]), float(value))
        except (KeyError, ValueError, TypeError):
            raise SphereFaceError(
                "no row of a training table",
                where=f"{log.source}: row {number}",
                expected="the columns iteration and net, and numbers",
            ) from None


def _number(text: str) -> float:
    """Return the number; what no parser knows (``1.#QNAN`` of Windows) is NaN."""
    try:
        return float(text.rstrip(","))
    except ValueError:
        return float("nan")
