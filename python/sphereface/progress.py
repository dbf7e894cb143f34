"""How far a long job is: one line with rate and time left on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

__all__ = ["Progress", "duration"]

_TERMINAL_INTERVAL, _PIPE_INTERVAL = 0.1, 5.0


class Progress:
    """Counts steps of a job and reports on a stream.

    On a terminal one line is rewritten up to ten times a second; elsewhere a line is written every
    five seconds. Both end with a line of the total.

    Parameters
    ----------
    total : int
        Steps of the whole job.
    label : str
        What the job is, e.g. ``"training"``.
    stream : text stream, optional
        stderr when not given, so that a command's result on stdout stays clean.
    clock : callable
        Seconds that only grow.

    Examples
    --------
    >>> with Progress(100, "training") as progress:
    ...     for _ in range(100):
    ...         progress.update()
    """

    def __init__(
        self,
        total: int,
        label: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.label, self.done = total, label, 0
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._interval = _TERMINAL_INTERVAL if self._terminal else _PIPE_INTERVAL
        self._clock = clock
        self._start = self._last = clock()
        self._note = ""

    def update(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` follows the numbers until the next update."""
        self.done += steps
        self._note = note
        now = self._clock()
        if now - self._last >= self._interval and self.done < self.total:
            self._last = now
            rate = self.done / (now - self._start)
            left = duration((self.total - self.done) / rate) if rate else "?"
            self._write(f"{rate:.1f}/s, {left} left", end="")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = self._clock() - self._start
        self._note = ""
        rate = f"{self.done / seconds:.1f}/s, " if seconds > 0 else ""
        self._write(f"{rate}{duration(seconds)}", end="\n")

    def _write(self, timing: str, end: str) -> None:
        percent = 100 * self.done // self.total if self.total else 100
        note = f" {self._note}" if self._note else ""
        line = f"{self.label}: {self.done}/{self.total} ({percent} %), {timing}{note}"
        # "\x1b[K" clears what a longer line before left behind.
        self._stream.write(f"\r{line}\x1b[K{end}" if self._terminal else f"{line}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return ``"1 min 05 s"``, ``"2 h 10 min"``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
