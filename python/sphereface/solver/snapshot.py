"""Snapshots: Caffe's caffemodel and solverstate and our sidecar, written and checked as one.

Source: Solver::Snapshot, SnapshotFilename and the Restore functions (solver.cpp, sgd_solver.cpp).
What differs: all three files are complete on disk before the first gets its name, the solverstate
gets its name last, and one of another snapshot's is removed before; so whatever has a solverstate
is whole, at whatever instant the process ends. A file that Caffe would mix up with another's
(moved, overwritten) is refused.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sphereface.errors import SphereFaceError
from sphereface.solver.sidecar import Sidecar, checksum, read_sidecar, write_sidecar
from sphereface.solver.snapshot_lock import SnapshotLock
from sphereface.weights import SolverState, read_solverstate, write_solverstate

__all__ = [
    "LoadedSnapshot",
    "SnapshotFiles",
    "check_state_name",
    "newest_snapshot",
    "read_snapshot",
    "snapshot_files",
    "write_snapshot",
]


@dataclass(frozen=True)
class SnapshotFiles:
    """The files of one snapshot."""

    model: Path
    state: Path
    sidecar: Path


@dataclass(frozen=True)
class LoadedSnapshot:
    """A snapshot that was read and checked; the sidecar is None in a snapshot of Caffe's."""

    files: SnapshotFiles
    state: SolverState
    sidecar: Sidecar | None


def snapshot_files(prefix: str, iteration: int, hdf5: bool = False) -> SnapshotFiles:
    """Return the names that Caffe gives to a snapshot, and the sidecar's."""
    stem, suffix = f"{prefix}_iter_{iteration}", ".h5" * hdf5
    return SnapshotFiles(
        Path(f"{stem}.caffemodel{suffix}"),
        Path(f"{stem}.solverstate{suffix}"),
        Path(f"{stem}.solverstate{suffix}.npz"),
    )


def write_snapshot(
    files: SnapshotFiles, write_model: Callable[[Path], None], state: SolverState, sidecar: Sidecar
) -> None:
    """Write a snapshot, all of it or nothing.

    Parameters
    ----------
    files : SnapshotFiles
        Where to.
    write_model : callable
        Writes the weights to a path.
    state : SolverState
        Of the solver.
    sidecar : Sidecar
        Gets the checksums here.

    Raises
    ------
    SphereFaceError
        It cannot be written, or another process writes snapshots of that prefix.
    """
    prefix = re.sub(r"_iter_\d+\.solverstate.*$", "", files.state.name)
    with SnapshotLock(str(files.state.parent / prefix)):
        _write(prefix, files, write_model, state, sidecar)


def _write(
    prefix: str,
    files: SnapshotFiles,
    write_model: Callable[[Path], None],
    state: SolverState,
    sidecar: Sidecar,
) -> None:
    # One name for a prefix, so that what a killed process left is overwritten by the next.
    partial = files.state.parent / f".{prefix}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        model, state_path, sidecar_path = (
            partial / path.name for path in (files.model, files.state, files.sidecar)
        )
        write_model(model)
        write_solverstate(state_path, state)
        sidecar.checksums = {"model": checksum(model), "state": checksum(state_path)}
        write_sidecar(sidecar_path, sidecar)
        files.state.unlink(missing_ok=True)
        model.replace(files.model)
        sidecar_path.replace(files.sidecar)
        state_path.replace(files.state)
    except OSError as error:
        raise SphereFaceError(
            f"the snapshot cannot be written ({error.strerror})",
            where=str(error.filename or files.state),
            fix="make room, or change snapshot_prefix",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_state_name(path: str | os.PathLike[str]) -> None:
    """Refuse what is, by its name, another file of a snapshot than its solverstate.

    Raises
    ------
    SphereFaceError
        It is a caffemodel or a sidecar; the error says what takes it.
    """
    name = os.fspath(path)
    if name.endswith((".caffemodel", ".caffemodel.h5")):
        state = Path(name.replace(".caffemodel", ".solverstate"))
        there = f" ({state} is there)" if state.is_file() else ""
        raise SphereFaceError(
            "weights, which have no state of a solver",
            where=name,
            expected=f"a .solverstate{there}",
            fix="--weights takes the weights, and starts a new run from them",
        )
    if name.endswith((".solverstate.npz", ".solverstate.h5.npz")):
        raise SphereFaceError(
            "the file beside a solverstate", where=name, expected=name.removesuffix(".npz")
        )


def read_snapshot(path: str | os.PathLike[str]) -> LoadedSnapshot:
    """Read the solverstate `path` and check that model and sidecar belong to it.

    Raises
    ------
    SphereFaceError
        A file is damaged or missing, or they are of different snapshots.
    """
    check_state_name(path)
    state_path = Path(path)
    if not state_path.is_file():
        raise SphereFaceError("no such file", where=str(path), expected="a .solverstate")
    state = read_solverstate(state_path)
    files = SnapshotFiles(
        _model_of(state_path, state.learned_net),
        state_path,
        state_path.with_name(state_path.name + ".npz"),
    )
    if not files.sidecar.is_file():
        return LoadedSnapshot(files, state, None)
    sidecar = read_sidecar(files.sidecar)
    if sidecar.iteration != state.iter:
        raise SphereFaceError(
            f"of iteration {sidecar.iteration}",
            where=str(files.sidecar),
            expected=f"{state.iter}, as in {files.state}",
            fix="remove it to resume without it",
        )
    for name, file in (("model", files.model), ("state", files.state)):
        if sidecar.checksums.get(name) != checksum(file):
            raise SphereFaceError(
                "not the file that was saved with this snapshot",
                where=str(file),
                expected=f"the checksum in {files.sidecar}",
                fix="bring the file back; or, if the change is meant, remove the sidecar",
            )
    return LoadedSnapshot(files, state, sidecar)


def newest_snapshot(prefix: str) -> Path | None:
    """Return the solverstate of the highest iteration under a snapshot_prefix, or None."""
    return max(_states(prefix), default=(0, None))[1]


def _states(prefix: str) -> Iterator[tuple[int, Path]]:
    path = Path(prefix)
    pattern = re.compile(re.escape(path.name) + r"_iter_(\d+)\.solverstate(?:\.h5)?")
    for file in path.parent.iterdir() if path.parent.is_dir() else ():
        match = pattern.fullmatch(file.name)
        if match:
            yield int(match[1]), file


def _model_of(state_path: Path, learned_net: str) -> Path:
    """Return the caffemodel that a solverstate names: there, or moved along with the state."""
    for candidate in (state_path.with_name(Path(learned_net).name), Path(learned_net)):
        if learned_net and candidate.is_file():
            return candidate
    raise SphereFaceError(
        f'its caffemodel "{learned_net}" is missing',
        where=str(state_path),
        expected=f"the file beside the state or in {Path.cwd()}",
    )
