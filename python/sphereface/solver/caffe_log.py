"""A training log that scripts for Caffe's logs read (parse_log.py, parse_log.sh, plots).

Source: the LOG(INFO) lines of solver.cpp and sgd_solver.cpp behind glog's prefix. What differs: of
gradient clipping only displayed iterations are told.
"""

from __future__ import annotations

import datetime as dt
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from sphereface.solver.records import IterationRecord, Score, SolverCallback, TestRecord

if TYPE_CHECKING:
    from sphereface.solver.snapshot import SnapshotFiles
    from sphereface.solver.solver import Solver

__all__ = ["CaffeLog", "log_line"]

_SOLVER, _SGD_SOLVER = "solver.cpp", "sgd_solver.cpp"


class CaffeLog(SolverCallback):
    """Writes Caffe's lines to a stream.

    Parameters
    ----------
    stream : text stream, optional
        stderr when not given, as glog's.
    clock : callable
        Seconds that only grow, for the rate.
    now : callable
        The time of a line.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = dt.datetime.now,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._now = clock, now
        self._since = clock()
        self._last_iteration: int | None = None
        self._display, self._clip = 0, 0.0

    def on_solve(self, solver: Solver) -> None:
        """Write what parse_log.py looks for first."""
        self._line(f"Solving {solver.net.name}", _SOLVER, 272)
        self._line(f"Learning Rate Policy: {solver.param.lr_policy}", _SOLVER, 273)

    def on_forward(self, solver: Solver) -> None:
        """Start the clock of the first display."""
        if self._last_iteration is None:
            self._last_iteration, self._since = solver.iter, self._clock()
        self._display, self._clip = solver.param.display, solver.param.clip_gradients

    def on_iteration(self, record: IterationRecord) -> None:
        """Write loss, outputs and rate of an iteration that is to be displayed."""
        if record.display:
            self._display_lines(record)
        if record.new_step is not None:
            self._line(
                f"MultiStep Status: Iteration {record.iteration}, step = {record.new_step}",
                _SGD_SOLVER, 59,
            )  # fmt: skip
        if record.display:
            self._line(f"Iteration {record.iteration}, lr = {record.rate:g}", _SGD_SOLVER, 105)
            if record.gradient_norm is not None and float(record.gradient_norm) > self._clip:
                norm = float(record.gradient_norm)
                self._line(
                    f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {self._clip:g})"
                    f" by scale factor {self._clip / norm:g}", _SGD_SOLVER, 128,
                )  # fmt: skip

    def on_test_start(self, iteration: int, net: int) -> None:
        """Write which net is tested."""
        self._line(f"Iteration {iteration}, Testing net (#{net})", _SOLVER, 330)

    def on_test(self, record: TestRecord) -> None:
        """Write a test net's mean scores."""
        if record.loss is not None:
            self._line(f"Test loss: {record.loss:g}", _SOLVER, 380)
        for number, score in enumerate(record.scores):
            self._line(f"    Test net output #{number}: {_told(score)}", _SOLVER, 397)

    def on_snapshot(self, files: SnapshotFiles) -> None:
        """Write the names of the files."""
        kind = "HDF5" if files.state.suffix == ".h5" else "binary proto"
        self._line(f"Snapshotting to {kind} file {files.model}", _SOLVER, 447)
        self._line(f"Snapshotting solver state to {kind} file {files.state}", _SGD_SOLVER, 273)

    def on_message(self, text: str) -> None:
        """Write any other message, line by line."""
        for line in text.splitlines():
            self._line(line, _SOLVER, 310)

    def _display_lines(self, record: IterationRecord) -> None:
        seconds = self._clock() - self._since
        done = record.iteration - (self._last_iteration or 0)
        self._since, self._last_iteration = self._clock(), record.iteration
        self._line(
            f"Iteration {record.iteration} ({done / (seconds or 1):g} iter/s, {seconds:g}s/"
            f"{self._display} iters), loss = {record.smoothed_loss:g}",
            _SOLVER,
            218,
        )
        for number, score in enumerate(record.scores):
            self._line(f"    Train net output #{number}: {_told(score)}", _SOLVER, 237)

    def _line(self, text: str, file: str, number: int) -> None:
        self._stream.write(log_line(text, file, number, self._now()))
        self._stream.flush()


def log_line(text: str, file: str, number: int, now: dt.datetime | None = None) -> str:
    """Return a line as glog writes it for line `number` of Caffe's `file`."""
    now = now or dt.datetime.now()
    return f"I{now:%m%d %H:%M:%S.%f} {threading.get_native_id():5d} {file}:{number}] {text}\n"


def _told(score: Score) -> str:
    text = f"{score.name} = {score.value:g}"
    if score.loss_weight:
        weighted = score.loss_weight * score.value
        text += f" (* {score.loss_weight:g} = {weighted:g} loss)"
    return text
