"""Batches made ahead of time by worker threads, delivered in order.

Source: the prefetching thread of Caffe's base_data_layer.cpp. What differs: several threads (OpenCV
and numpy release Python's lock while they work), each on a part of a batch; what a batch holds is
settled before the threads see it, so their number does not show.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Job", "Loader"]

T = TypeVar("T")


class Job(NamedTuple, Generic[T]):
    """A result, and the calls that complete it; they may run at the same time."""

    result: T
    parts: list[Callable[[], None]]


class Loader(Generic[T]):
    """Runs jobs on threads, a few ahead of their consumer.

    Parameters
    ----------
    plan : callable
        Returns the next `Job`; called in order by the consumer's thread, so it must be quick.
    workers : int
        Number of threads; 0 does the work in `next`.
    ahead : int
        Jobs that are under way while the consumer uses the last one.
    """

    def __init__(self, plan: Callable[[], Job[T]], workers: int, ahead: int) -> None:
        self._plan, self._workers, self._ahead = plan, workers, max(1, ahead)
        self._queue: deque[tuple[T, list[Callable[[], object]]]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def next(self) -> T:
        """Return the next result.

        Raises
        ------
        Exception
            Whatever a part of this job raised; the job stays the next one.
        """
        if self._workers and self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, "sphereface-data")
        while len(self._queue) <= (self._ahead if self._workers else 0):
            result, parts = self._plan()
            self._queue.append((result, [self._start(part) for part in parts]))
        result, waits = self._queue[0]
        for wait in waits:
            wait()
        self._queue.popleft()
        return result

    def _start(self, part: Callable[[], None]) -> Callable[[], object]:
        """Give `part` to a thread, if there are any; return what waits for its end."""
        return self._pool.submit(part).result if self._pool else part

    def close(self) -> None:
        """Forget the jobs that are under way and end the threads; `next` would start anew."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._queue.clear()
