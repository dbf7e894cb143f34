"""A solver's state into a snapshot, and back.

Source: Solver::Snapshot and Restore. What differs: without a sidecar, the counters that Caffe
starts again (of margin layers) follow from the iteration.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sphereface.errors import SphereFaceError
from sphereface.solver.sidecar import Sidecar, load_buffers, net_buffers, source_states
from sphereface.solver.snapshot import (
    SnapshotFiles,
    read_snapshot,
    snapshot_files,
    write_snapshot,
)
from sphereface.weights import SolverState

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["restore_solver", "snapshot_solver"]


def snapshot_solver(solver: Solver) -> SnapshotFiles:
    """Write a snapshot of `solver` under its ``snapshot_prefix``."""
    param = solver.param
    if not param.HasField("snapshot_prefix"):
        raise SphereFaceError(
            "no snapshot_prefix", where=solver.file.source, expected="where snapshots go"
        )
    files = snapshot_files(param.snapshot_prefix, solver.iter, param.snapshot_format == param.HDF5)
    for callback in solver.callbacks:
        callback.on_snapshot(files)
    state = SolverState(
        solver.iter,
        str(files.model),
        [tensor.detach().cpu().numpy() for tensor in solver.updater.history],
        solver.current_step,
    )
    nets = [solver.net, *solver.test_nets]
    sidecar = Sidecar(
        solver.iter,
        buffers={key: buffer.cpu().numpy() for key, buffer in net_buffers(nets).items()},
        generators=_generator_states(solver.device),
        sources=source_states([solver.source, *solver.test_sources]),
    )

    def write_model(path: Path) -> None:
        solver.net.save(path, diffs=param.snapshot_diff)

    write_snapshot(files, write_model, state, sidecar)
    return files


def restore_solver(solver: Solver, path: str | os.PathLike[str]) -> None:
    """Put `solver` where it was when `path` was written."""
    loaded = read_snapshot(path)
    state, sidecar, where = loaded.state, loaded.sidecar, os.fspath(path)
    solver.updater.check_history(state.history, where)
    solver.net.copy_from(loaded.files.model, strict=True)
    solver.updater.load_history(state.history)
    solver.iter, solver.current_step = state.iter, state.current_step
    if sidecar is None:
        _rebuild(solver, loaded.files.sidecar)
        return
    load_buffers([solver.net, *solver.test_nets], sidecar.buffers, str(loaded.files.sidecar))
    _set_generators(sidecar.generators, str(loaded.files.sidecar))
    sources = [solver.source, *solver.test_sources]
    for source, saved in zip(sources, sidecar.sources, strict=False):
        if source is not None and saved is not None:
            source.restore(saved)


def _rebuild(solver: Solver, sidecar: Path) -> None:
    """Set the counters of forwards to what they are after ``iter * iter_size`` passes."""
    passes = solver.iter * solver.param.iter_size
    counters = []
    for layer in solver.net.layers:
        counter = layer._buffers.get("iteration")
        if counter is not None:
            counter.fill_(layer.options.iteration + passes)
            counters.append(f"{layer.name} {int(counter)}")
    solver.tell(
        f"No {sidecar.name}: random numbers and the order of the data start anew"
        + (f"; iteration of {', '.join(counters)} from the solver's" if counters else "")
    )


def _generator_states(device: torch.device) -> dict[str, np.ndarray]:
    states = {"cpu": torch.get_rng_state().numpy()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device).numpy()
    return states


def _set_generators(states: dict[str, np.ndarray], where: str) -> None:
    try:
        torch.set_rng_state(torch.from_numpy(states["cpu"]))
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise SphereFaceError(
            f"no state of torch's random numbers ({error})",
            where=where,
            fix="remove the file to resume without it",
        ) from None
