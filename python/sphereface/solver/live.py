"""How far a training is, in one line under the log of a terminal.

In a pipe Caffe's lines say it; where there are none (``display: 0``) a plain line is written every
five seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from sphereface.caffe.layers.margin_inner_product import AnnealedProduct
from sphereface.progress import duration
from sphereface.solver.records import IterationRecord, SolverCallback

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["LiveLine"]

_TERMINAL_INTERVAL, _PIPE_INTERVAL = 0.2, 5.0
_CLEAR = "\r\x1b[K"


class LiveLine(SolverCallback):
    """Shows iteration, loss, lambda, learning rate, images per second and the time left.

    It is a text stream too, for those who write to the same terminal: their lines go above its own.

    Parameters
    ----------
    stream : text stream, optional
        stderr when not given.
    ranks : int
        Processes that share the work.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        ranks: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._ranks, self._clock = ranks, clock
        self._line = ""
        self._lambdas: list[str] = []
        self._total, self._display = 0, 0
        self._begun: tuple[float, int] | None = None  # when, at which iteration
        self._last = 0.0
        self._samples = 0

    def on_forward(self, solver: Solver) -> None:
        """Note where the training starts, at the first iteration."""
        if self._begun is None:
            self._begun, self._last = (self._clock(), solver.iter), self._clock()
            self._total, self._display = solver.param.max_iter, solver.param.display
            tops = (
                layer.layer_param.top
                for layer in solver.net.layers
                if isinstance(layer, AnnealedProduct)
            )
            self._lambdas = [names[1] for names in tops if len(names) > 1]

    def on_iteration(self, record: IterationRecord) -> None:
        """Show the iteration, if it is time."""
        now = self._clock()
        self._samples += record.samples * self._ranks
        if self._begun is None or (not self._terminal and self._display):
            return
        if now - self._last >= (_TERMINAL_INTERVAL if self._terminal else _PIPE_INTERVAL):
            self._last = now
            self._show(self._text(record, now))

    def write(self, text: str) -> int:
        """Write whole lines above the line."""
        if self._line:
            self._stream.write(_CLEAR)
        self._stream.write(text)
        if self._line:
            self._stream.write(self._line)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def close(self) -> None:
        """Remove the line."""
        if self._line:
            self._line = ""
            self._stream.write(_CLEAR)
            self._stream.flush()

    def _show(self, text: str) -> None:
        if self._terminal:
            self._line = text
            self._stream.write(_CLEAR + text)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def _text(self, record: IterationRecord, now: float) -> str:
        begun, first = self._begun or (now, 0)
        seconds, done = now - begun, record.iteration + 1
        parts = [f"loss {record.smoothed_loss:.4g}"]
        parts += [
            f"{name} {float(record.outputs[name]):.4g}"
            for name in self._lambdas
            if name in record.outputs
        ]
        parts.append(f"lr {record.rate:g}")
        rate = (done - first) / seconds
        parts.append(f"{self._samples / seconds:.0f} img/s" if self._samples else f"{rate:.1f}/s")
        parts.append(f"{duration((self._total - done) / rate)} left")
        percent = 100 * done // self._total if self._total else 100
        return f"training: {done}/{self._total} ({percent} %), {', '.join(parts)}"
