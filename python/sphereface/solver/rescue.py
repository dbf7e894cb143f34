"""An error that ends a training costs nothing that was learned: a snapshot comes first.

Caffe's tool loses all since the last snapshot when a record is bad or its log's reader leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sphereface.errors import NonFiniteError, SphereFaceError

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["rescued"]


@contextlib.contextmanager
def rescued(solver: Solver) -> Iterator[None]:
    """Snapshot `solver` when the block raises, if it has learned something since the last one.

    Not after numbers that are none, which no snapshot should hold, and not within an update. Where
    a batch could not be read, the run resumes with that batch, bit for bit. An error within a
    forward or backward leaves what counts forwards (lambda, BatchNorm's means) one pass ahead.
    Not with split classes: the other processes, which have their rows, are still within a pass.
    """
    try:
        yield
    except NonFiniteError:
        raise
    except Exception as error:
        if (
            solver.snapshots
            and solver.updater.sharing is None
            and solver.iter > solver.saved_iter
            and not solver.updating
        ):
            _snapshot(solver, error)
        raise


def _snapshot(solver: Solver, error: Exception) -> None:
    what = str(error) or type(error).__name__
    try:
        try:
            solver.tell(f"{what}; what was learned is saved before this training ends")
            solver.snapshot()
        except OSError:  # a log's reader has left; the files' errors are SphereFaceErrors
            solver.callbacks.clear()
            solver.snapshot()
    except SphereFaceError as failure:
        with contextlib.suppress(OSError):
            solver.tell(f"no snapshot of iteration {solver.iter}: {failure}")
