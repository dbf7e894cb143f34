"""``caffe.Timer``: milliseconds between `start` and `stop`, of the GPU's work too.

Source: Caffe's benchmark.cpp.
"""

from __future__ import annotations

import time

import torch

from sphereface.pycaffe.mode import current_device

__all__ = ["Timer"]


class Timer:
    """A stopwatch; `ms` is what it showed at the last `stop`, 0 before."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._milliseconds = 0.0

    def start(self) -> None:
        """Begin, unless it runs already."""
        if self._since is None:
            self._since = _now()

    def stop(self) -> None:
        """Take the time since `start`."""
        if self._since is not None:
            self._milliseconds = 1000 * (_now() - self._since)
            self._since = None

    @property
    def ms(self) -> float:
        """Milliseconds; of a timer that runs, it stops it, as in Caffe."""
        self.stop()
        return self._milliseconds


def _now() -> float:
    device = current_device()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
