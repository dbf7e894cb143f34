"""SolverParameter: reading, upgrading and checking a solver's prototxt, and what its nets are.

Source: ReadSolverParamsFromTextFileOrDie (upgrade_proto.cpp), Solver::Init, InitTrainNet and
InitTestNets (solver.cpp). What differs: everything is checked before a net is built; a net's file
is looked for in the current folder, as there, and then beside the solver's file; solver_mode GPU
on a machine without one is no error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphereface.caffe.layer import Phase
from sphereface.caffe.load import load_file
from sphereface.errors import SphereFaceError, nearest
from sphereface.proto import schema, text
from sphereface.proto.net_file import NetFile
from sphereface.proto.source import load_text
from sphereface.proto.upgrade import upgrade_solver
from sphereface.solver.fork_options import refuse_fork_options
from sphereface.solver.lr_policy import check_policy
from sphereface.solver.update_rules import RULES

__all__ = ["NetSource", "SolverFile", "read_solver"]


@dataclass(frozen=True)
class NetSource:
    """A net that a solver asks for.

    Attributes
    ----------
    file : NetFile
        The net with the layers of all phases, read once for all nets of the solver.
    phase, level, stages
        The state that its layers' rules are tested against, for `sphereface.caffe.load`.
    """

    file: NetFile
    phase: Phase
    level: int = 0
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class SolverFile:
    """A checked SolverParameter of today's form.

    Attributes
    ----------
    param : SolverParameter
        With `type`, not `solver_type`; ``snapshot_prefix`` completed as Caffe completes it.
    source : str
        File name for errors.
    train, test : NetSource, tuple of NetSource
        The nets. `test` has one for each ``test_iter``.
    changes : tuple of str
        Upgrades that were made.
    """

    param: Any
    source: str
    train: NetSource
    test: tuple[NetSource, ...]
    changes: tuple[str, ...] = ()


def read_solver(solver: str | os.PathLike[str] | Any) -> SolverFile:
    """Read a solver from a path, its text or a SolverParameter.

    Raises
    ------
    SphereFaceError
        What Caffe would refuse, with the file.
    """
    folder = Path()
    if hasattr(solver, "DESCRIPTOR"):
        message, source = solver, "solver"
    else:
        content, source = load_text(solver)
        message = text.parse(content, "SolverParameter", source).message
        if source == os.fspath(solver):
            folder = Path(source).parent
    upgraded = upgrade_solver(message)
    param = upgraded.message
    try:
        if source != "prototxt" and not hasattr(solver, "DESCRIPTOR"):
            _complete_prefix(param, Path(source))
        _check(param, source)
        nets = _NetFiles(source, folder)
        return SolverFile(
            param, source, _train_net(param, nets), _test_nets(param, nets), upgraded.changes
        )
    except OSError as error:  # a name in it that the system does not take
        raise SphereFaceError(f"{error.strerror}: {error.filename}", where=source) from None


def _complete_prefix(param: Any, file: Path) -> None:
    """Caffe's UpgradeSnapshotPrefixProperty."""
    if not param.HasField("snapshot_prefix"):
        param.snapshot_prefix = str(file.with_suffix(""))
    elif Path(param.snapshot_prefix).is_dir():
        param.snapshot_prefix = str(Path(param.snapshot_prefix) / file.stem)


# ---- checks


def _check(param: Any, source: str) -> None:
    if param.type not in RULES:
        raise SphereFaceError(
            f'unknown solver type "{param.type}"',
            where=source,
            expected=", ".join(sorted(RULES)),
            fix=nearest(param.type, RULES),
        )
    if not param.HasField("base_lr"):
        raise SphereFaceError("no base_lr", where=source, expected="the learning rate")
    check_policy(param, source)
    refuse_fork_options(param, source)
    RULES[param.type].check(param, source)
    for name, least in (("iter_size", 1), ("average_loss", 1), ("snapshot", 0), ("display", 0),
                        ("test_interval", 0), ("max_iter", 0)):  # fmt: skip
        if getattr(param, name) < least:
            raise SphereFaceError(
                f"{name} {getattr(param, name)}", where=source, expected=f"{least} or more"
            )
    if param.regularization_type not in ("L1", "L2"):
        raise SphereFaceError(
            f'unknown regularization_type "{param.regularization_type}"',
            where=source,
            expected="L1 or L2",
        )
    if param.snapshot:
        _check_writable(param, source)


def _check_writable(param: Any, source: str) -> None:
    if not param.HasField("snapshot_prefix"):
        raise SphereFaceError("snapshot without snapshot_prefix", where=source, expected="both")
    folder = Path(param.snapshot_prefix).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SphereFaceError(
            f'cannot write to the folder of snapshot_prefix "{param.snapshot_prefix}"',
            where=source,
            fix=f"make the folder {folder.absolute()} and make it writable",
        )


# ---- nets


def _train_net(param: Any, nets: _NetFiles) -> NetSource:
    given = [name for name in _TRAIN_FIELDS if param.HasField(name)]
    if len(given) != 1:
        raise SphereFaceError(
            f"train net given by {' and '.join(given)}" if given else "no train net",
            where=nets.source,
            expected=f"one of {', '.join(_TRAIN_FIELDS)}",
        )
    state = param.train_state if param.HasField("train_state") else None
    return _with_state(nets.read(getattr(param, given[0])), schema.TRAIN, state)


_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


def _test_nets(param: Any, nets: _NetFiles) -> tuple[NetSource, ...]:
    tests: list[Any] = [*param.test_net_param, *param.test_net]
    generic = param.net_param if param.HasField("net_param") else param.net
    has_generic = param.HasField("net_param") or param.HasField("net")
    wanted = len(param.test_iter)
    if wanted < len(tests) or (wanted > len(tests) and not has_generic):
        raise SphereFaceError(
            f"{wanted} test_iter values for {len(tests)} test nets",
            where=nets.source,
            expected="one for each test net" + (", more for the net itself" * has_generic),
        )
    if not wanted:
        return ()
    # Caffe's order: messages, files, then as many instances of the generic net as are left.
    tests += [generic] * (wanted - len(tests))
    if param.test_state and len(param.test_state) != wanted:
        raise SphereFaceError(
            f"{len(param.test_state)} test_state messages for {wanted} test nets",
            where=nets.source,
            expected="none, or one for each test net",
        )
    if param.test_interval <= 0:
        raise SphereFaceError("test_iter without test_interval", where=nets.source, expected="both")
    states: Sequence[Any] = param.test_state or [None] * wanted
    return tuple(
        _with_state(nets.read(net), schema.TEST, state)
        for net, state in zip(tests, states, strict=True)
    )


class _NetFiles:
    """Reads the nets that a solver's file names, each once."""

    def __init__(self, source: str, folder: Path) -> None:
        self.source, self._folder = source, folder
        self._read: dict[Path, NetFile] = {}

    def read(self, net: Any) -> NetFile:
        """Return a net: a message, or a file that is named from the current or solver's folder."""
        if not isinstance(net, str):
            return load_file(net)
        folder = self._folder
        found = next((p for p in (Path(net), folder / net) if p.is_file()), None)
        if found is None:
            beside = f" and in {folder.absolute()}" if folder != Path() else ""
            raise SphereFaceError(
                f'net "{net}" not found',
                where=self.source,
                expected=f"a file in {Path.cwd()}{beside}",
                fix=nearest(Path(net).name, [p.name for p in folder.glob("*.prototxt")]),
            )
        if found not in self._read:
            self._read[found] = load_file(found)
        return self._read[found]


def _with_state(file: NetFile, phase: int, override: Any) -> NetSource:
    """Merge phase, the net's own state and the solver's, each over the one before."""
    state = type(file.net.state)(phase=phase)
    state.MergeFrom(file.net.state)
    stages: tuple[str, ...] = ()
    if override is not None:
        state.MergeFrom(type(state).FromString(override.SerializeToString()))
        stages = tuple(override.stage)  # the net's own are added where the net is built
    return NetSource(file, "TEST" if state.phase == schema.TEST else "TRAIN", state.level, stages)
