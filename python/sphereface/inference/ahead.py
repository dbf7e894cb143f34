"""Work of threads ahead of the one who uses it, in order and with a bound."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead", "default_workers"]

T = TypeVar("T")
_MOST_WORKERS = 8


def default_workers() -> int:
    """Return the number of threads for decoding: one a core, at most 8."""
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))


def ahead(jobs: Iterable[Callable[[], T]], workers: int, waiting: int) -> Iterator[T]:
    """Yield the results of `jobs` in their order, computed by threads.

    Parameters
    ----------
    jobs : iterable of callable
        Drawn in the caller's thread, as late as `waiting` allows.
    workers : int
        Threads; 0 computes each result when it is asked for.
    waiting : int
        Results that may be ready or in work at a time, which bounds the memory.

    Raises
    ------
    Exception
        What a job raises, in its place of the order; later jobs are dropped.
    """
    if not workers:
        for job in jobs:
            yield job()
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="sphereface-decode") as pool:
        queue: deque[Future[T]] = deque()
        try:
            for job in jobs:
                queue.append(pool.submit(job))
                if len(queue) >= waiting:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()
