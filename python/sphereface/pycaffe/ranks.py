"""What pycaffe tells and sets about parallel training: here, one process and one solver.

Source: pycaffe's _caffe.cpp. What differs: several devices are trained by ``sphereface train``, so
more than one solver is refused here, and an `NCCL` has nobody to talk to.
"""

from __future__ import annotations

import uuid
from typing import Any

from sphereface.errors import SphereFaceError

__all__ = [
    "NCCL",
    "has_nccl",
    "set_multiprocess",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]


def has_nccl() -> bool:
    """Return False: scripts then take their way without NCCL."""
    return False


def solver_count() -> int:
    """Return 1."""
    return 1


def solver_rank() -> int:
    """Return 0."""
    return 0


def set_solver_count(count: int) -> None:
    """Accept 1."""
    _only("set_solver_count", count, 1)


def set_solver_rank(rank: int) -> None:
    """Accept 0."""
    _only("set_solver_rank", rank, 0)


def set_multiprocess(multiprocess: bool) -> None:
    """Accept either: the only process is the first one."""


class NCCL:
    """What shares gradients among solvers: of one solver, nothing.

    Parameters
    ----------
    solver : SGDSolver
        The one.
    uid : str
        What `new_uid` returned.
    """

    def __init__(self, solver: Any, uid: str) -> None:
        self.solver, self.uid = solver, uid

    @staticmethod
    def new_uid() -> str:
        """Return a name that no other group of solvers has."""
        return uuid.uuid4().hex

    def bcast(self) -> None:
        """Send the first solver's weights to all others: to none."""


def _only(where: str, given: object, possible: object) -> None:
    if given != possible:
        raise SphereFaceError(
            f"{given}",
            where=where,
            expected=f"{possible}, for one process",
            fix="train on several devices with: sphereface train --solver S.prototxt --gpu 0,1",
        )
