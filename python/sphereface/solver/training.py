"""A training from start to end, as ``caffe train`` does it: solver, data, logs, signals, ranks."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO, cast

from sphereface.caffe.layer_files import load_layers
from sphereface.caffe.open_net import DataOptions
from sphereface.errors import NonFiniteError, SphereFaceError
from sphereface.solver.caffe_log import CaffeLog
from sphereface.solver.config import SolverFile, read_solver
from sphereface.solver.data_checks import data_warnings
from sphereface.solver.distributed import (
    Place,
    RankGroup,
    StartTogether,
    devices_of,
    spawn,
    torchrun_place,
)
from sphereface.solver.divergence import DivergedError
from sphereface.solver.finetuning import check_weights_names
from sphereface.solver.live import LiveLine
from sphereface.solver.lr_policy import learning_rate
from sphereface.solver.margin_figures import MarginFigures
from sphereface.solver.modes import Mode, ModeNets
from sphereface.solver.records import SolverCallback
from sphereface.solver.sharded_classes import check_sharing
from sphereface.solver.signals import Action, SignalActions
from sphereface.solver.snapshot import check_state_name
from sphereface.solver.solver import Solver
from sphereface.solver.tables import TableLog
from sphereface.solver.verification import Verification, VerifyOptions

__all__ = ["DataOptions", "LogOptions", "TrainOptions", "VerifyOptions", "train"]


@dataclass(frozen=True)
class LogOptions:
    """Where a training's numbers go besides stderr; empty is nowhere.

    Attributes
    ----------
    folder : str
        Of the log file, which is called as the solver's.
    table : str
        A ``.csv`` or ``.jsonl``.
    tensorboard : str
        A folder.
    """

    folder: str = ""
    table: str = ""
    tensorboard: str = ""


@dataclass(frozen=True)
class TrainOptions:
    """What the flags of ``caffe train`` say, and more.

    Attributes
    ----------
    solver : str
        The solver's prototxt.
    weights : str
        Files to start from, separated by commas.
    snapshot : str
        A solverstate to go on from.
    gpu : str, optional
        ``0,1``, ``all``, ``none``; without it the prototxt says.
    ranks : int
        Processes on CPUs, with gpu ``none``.
    level, stages : int, tuple of str
        Of the train net's state.
    sigint_effect, sighup_effect, sigterm_effect : str
        ``snapshot``, ``stop`` or ``none``.
    layers : tuple of str
        Python files that register layer types; see `load_layers`.
    verify : VerifyOptions, optional
        Who is verified while the net trains.
    """

    solver: str
    weights: str = ""
    snapshot: str = ""
    gpu: str | None = None
    ranks: int = 1
    level: int | None = None
    stages: tuple[str, ...] = ()
    sigint_effect: str = "stop"
    sighup_effect: str = "snapshot"
    sigterm_effect: str = "stop"
    mode: Mode = field(default_factory=Mode)
    data: DataOptions = field(default_factory=DataOptions)
    logs: LogOptions = field(default_factory=LogOptions)
    layers: tuple[str, ...] = ()
    allow_python: tuple[str, ...] = ()
    verify: VerifyOptions | None = None


def train(options: TrainOptions) -> int | None:
    """Train as `options` say, in this process or in one for each of several devices.

    Returns
    -------
    int or None
        The signal that stopped it, if one did.

    Raises
    ------
    SphereFaceError
        Bad input, data that ended, or a loss that is no number.
    """
    if options.weights and options.snapshot:
        raise SphereFaceError(
            "--weights and --snapshot", expected="one of them: a snapshot has its own weights"
        )
    if options.weights:
        check_weights_names(options.weights)
    if options.snapshot:
        check_state_name(options.snapshot)
    effects = options.sigint_effect, options.sighup_effect, options.sigterm_effect
    with SignalActions(*effects) as action:
        place = torchrun_place(options.gpu)
        devices = devices_of(options.gpu, options.ranks)
        if place is None and len(devices) > 1:
            _solver_file(options)  # its errors are told before processes are started
            spawn(train_rank, devices, options, action)
        else:
            train_rank(place or Place(device=devices[0]), options, action)
    return action.stopped_by


def train_rank(place: Place, options: TrainOptions, action: Callable[[], Action]) -> None:
    """Do one process's part of a training."""
    for path in options.layers:
        load_layers(path)
    with RankGroup(place) as group, contextlib.ExitStack() as stack:
        file = _solver_file(options)
        if options.mode.shard_classes:
            check_sharing(file)
        seed = file.param.random_seed
        seed = group.share(random.SystemRandom().getrandbits(31) if seed < 0 else seed)
        data = replace(options.data, seed=seed, rank=place.rank, ranks=place.ranks)
        nets = stack.enter_context(
            ModeNets(options.mode, group, data, options.allow_python, seed=seed)
        )
        solver = Solver(
            file,
            nets=nets,
            device=place.device or None,
            callbacks=_listeners(options, place, stack),
            action=lambda: group.agree(action()),
            rank=place.rank,
        )
        solver.callbacks.append(StartTogether(group))
        _tell_start(solver, place)
        for net, source in ((solver.net, solver.source),
                            *zip(solver.test_nets, solver.test_sources, strict=True)):  # fmt: skip
            for warning in data_warnings(net, source):
                solver.tell(f"Warning: {warning}")
                if solver.monitor is not None:
                    solver.monitor.warnings.append(warning)
        if options.weights:
            solver.tell(f"Finetuning from {options.weights}")
            solver.copy_from(options.weights)
        _solve(solver, options.snapshot)
        _tell_bad_images(solver)


def _solver_file(options: TrainOptions) -> SolverFile:
    file = read_solver(options.solver)
    train_net = file.train
    if options.level is not None:
        train_net = replace(train_net, level=options.level)
    return replace(file, train=replace(train_net, stages=(*train_net.stages, *options.stages)))


def _listeners(
    options: TrainOptions, place: Place, stack: contextlib.ExitStack
) -> list[SolverCallback]:
    if place.rank:
        return []
    logs, resumed = options.logs, bool(options.snapshot)
    live = LiveLine(ranks=place.ranks)
    stack.callback(live.close)
    listeners: list[SolverCallback] = []
    # A compiled net and split classes show their rows to nobody.
    if not (options.mode.compile or options.mode.shard_classes):
        listeners.append(MarginFigures())
    listeners += [CaffeLog(cast(TextIO, live)), live]
    if logs.folder:
        Path(logs.folder).mkdir(parents=True, exist_ok=True)
        path = Path(logs.folder, Path(options.solver).stem + ".log")
        stream = stack.enter_context(path.open("a" if resumed else "w", encoding="utf-8"))
        listeners.append(CaffeLog(stream))
    if logs.table:
        table = TableLog(logs.table, append=resumed)
        stack.callback(table.close)
        listeners.append(table)
    if logs.tensorboard:
        from sphereface.solver.tensorboard import TensorBoardLog

        board = TensorBoardLog(logs.tensorboard)
        stack.callback(board.close)
        listeners.append(board)
    if options.verify is not None:
        verification = Verification(options.verify, replace(options.data, seed=0))
        stack.callback(verification.close)
        listeners.append(verification)
    return listeners


def _solve(solver: Solver, snapshot: str) -> None:
    """Train; what a margin layer says of numbers that are none gets the advice for lost runs."""
    try:
        solver.solve(resume=snapshot)
    except NonFiniteError as error:
        if isinstance(error, DivergedError) or solver.monitor is None:
            raise
        rate, _ = learning_rate(solver.param, solver.iter, solver.current_step)
        batch = next(iter(solver.net.blob_shapes[name] for name in solver.net.inputs), (0,))
        raise DivergedError(
            error.problem,
            where=f"iteration {solver.iter}: {error.where}",
            fix=solver.monitor.advice(rate, batch[0] * solver.param.iter_size),
        ) from None


def _tell_start(solver: Solver, place: Place) -> None:
    several = f", {place.ranks} processes" if place.ranks > 1 else ""
    solver.tell(f"Using {str(solver.device).upper()}{several}. Process {os.getpid()}")
    param = solver.param
    if not place.device and param.solver_mode == param.GPU and solver.device.type == "cpu":
        solver.tell("solver_mode: GPU, but torch finds no GPU here: training on the CPU")
    solver.tell("Starting Optimization")


def _tell_bad_images(solver: Solver) -> None:
    for source in (solver.source, *solver.test_sources):
        for name, member in getattr(source, "members", {}).items():
            bad = getattr(member, "bad", {})
            if bad:
                plural = "s" if len(bad) > 1 else ""
                solver.tell(f'Data layer "{name}" skipped {len(bad)} bad image{plural}')
