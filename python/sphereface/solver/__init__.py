"""Training as Caffe's solver does it: `Solver`, what feeds it, what listens, and its files."""

from __future__ import annotations

from sphereface.caffe.batch_source import BatchSource
from sphereface.solver.caffe_log import CaffeLog
from sphereface.solver.config import SolverFile, read_solver
from sphereface.solver.divergence import DivergedError, DivergenceMonitor
from sphereface.solver.nets import SolverNets
from sphereface.solver.records import IterationRecord, SolverCallback, TestRecord
from sphereface.solver.signals import Action, SignalActions
from sphereface.solver.snapshot import SnapshotFiles, newest_snapshot
from sphereface.solver.solver import Solver

__all__ = [
    "Action",
    "BatchSource",
    "CaffeLog",
    "DivergedError",
    "DivergenceMonitor",
    "IterationRecord",
    "SignalActions",
    "SnapshotFiles",
    "Solver",
    "SolverCallback",
    "SolverFile",
    "SolverNets",
    "TestRecord",
    "newest_snapshot",
    "read_solver",
]
