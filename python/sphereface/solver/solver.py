"""Caffe's solver on torch: step, solve, test, snapshot, restore.

Source: solver.cpp and sgd_solver.cpp. What differs: losses are looked at only when somebody wants
them (on a CPU, always); a loss that is no number ends the run; a snapshot resumes exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.batch_source import Feed, OpenSource, as_source, draw
from sphereface.errors import SphereFaceError
from sphereface.solver.config import SolverFile, read_solver
from sphereface.solver.debug_info import DebugInfo
from sphereface.solver.divergence import DivergenceMonitor
from sphereface.solver.finetuning import start_from
from sphereface.solver.gradients import Updater
from sphereface.solver.losses import Losses
from sphereface.solver.lr_policy import learning_rate
from sphereface.solver.nets import SolverNets
from sphereface.solver.persistence import RunState
from sphereface.solver.records import IterationRecord, SolverCallback, TestRecord
from sphereface.solver.rescue import rescued
from sphereface.solver.sharded_classes import split_rows
from sphereface.solver.signals import Action
from sphereface.solver.snapshot import (
    SnapshotFiles,
    read_snapshot,
    snapshot_files,
    write_snapshot,
)
from sphereface.solver.snapshot_lock import SnapshotLock
from sphereface.solver.test_nets import TestNets
from sphereface.weights import SolverState, StreamedArray

__all__ = ["Solver"]

_LOOK_AT_LOSSES = 20  # iterations between two looks at a GPU's losses


class Solver:
    """Trains a Caffe net as its solver's prototxt says.

    Parameters
    ----------
    solver : path, str, SolverParameter or SolverFile
        The solver; old fields are upgraded.
    open_source : callable, optional
        ``open_source(graph, phase)`` returns the `BatchSource` of the train net and of each test
        net. Without it `step` and `solve` are fed.
    device : torch.device or str, optional
        Where to compute. Without it, a GPU if ``solver_mode`` is GPU and there is one.
    callbacks : iterable of SolverCallback
        Who listens: `CaffeLog` and the like.
    action : callable, optional
        Asked after every iteration and before every test pass; see `SignalActions`.
    allow_python : bool or iterable of str
        Modules that Python layers may import; as in `sphereface.caffe.load`.
    rank : int
        Of several processes, which. It shifts ``random_seed``, and only rank 0 snapshots.
    nets : SolverNets, optional
        Instead of `open_source` and `allow_python`: another way to open and to run nets.

    Attributes
    ----------
    param : SolverParameter
        Checked and upgraded.
    net, test_nets : Net, list of Net
        The nets; test nets share the weights of `net` while they are tested.
    iter, saved_iter : int
        Updates done, and how many of them the newest snapshot holds.
    updating : bool
        An update is under way, so weights, histories and `iter` do not belong together.
    current_step : int
        Steps of the rate that the policy has taken.
    source, test_sources
        Where the batches come from.
    passes, test_passes : Passes, list of Passes
        How forward and backward are run, of `net` and of each test net.
    updater : Updater
        The learnable blobs with their histories.
    monitor : DivergenceMonitor, optional
        None to let a diverged run go on.
    stopped : bool
        An action stopped the last `step`.

    Examples
    --------
    >>> solver = Solver("digits_solver.prototxt", callbacks=[CaffeLog()])  # doctest: +SKIP
    >>> solver.solve(feed=batches)  # doctest: +SKIP
    """

    def __init__(
        self,
        solver: str | os.PathLike[str] | SolverFile | Any,
        *,
        open_source: OpenSource | None = None,
        device: torch.device | str | None = None,
        callbacks: Iterable[SolverCallback] = (),
        action: Callable[[], Action] | None = None,
        allow_python: bool | Iterable[str] = (),
        rank: int = 0,
        nets: SolverNets | None = None,
    ) -> None:
        file = solver if isinstance(solver, SolverFile) else read_solver(solver)
        self.file, self.param, self.rank = file, file.param, rank
        self.callbacks = list(callbacks)
        self.iter, self.saved_iter, self.current_step = 0, 0, 0
        self.stopped, self.updating = False, False
        self._action = action or (lambda: Action.NONE)
        self.device = self._device(device)
        if self.param.random_seed >= 0:
            torch.manual_seed(self.param.random_seed + rank)
        nets = nets or SolverNets(open_source, allow_python)
        opened = nets.open(file.train, fill=True)
        self.net, self.source = opened.net.to(self.device), opened.source
        opened_tests = [nets.open(test, fill=False) for test in file.test]
        self.test_nets = [t.net.to(self.device) for t in opened_tests]
        self.test_sources = [t.source for t in opened_tests]
        self.passes = nets.passes(opened, self.device, trained=True)
        self.test_passes = [nets.passes(t, self.device, trained=False) for t in opened_tests]
        for test in self.test_passes:
            test.share_with(self.passes)
        self._tests = TestNets(
            self.test_passes,
            self.test_sources,
            self.param.test_iter,
            self.param.test_compute_loss,
            self.device,
        )
        for names in self.param.weights:
            self.copy_from(names)
        self.updater = Updater(self.net, self.param, nets.sharing)
        self.monitor: DivergenceMonitor | None = DivergenceMonitor(self.net, self.param)
        self._losses = Losses(self.param.average_loss)
        for change in file.changes:
            self.tell(f"{file.source}: upgraded {change}")

    # ---- running

    def solve(self, feed: Feed | None = None, *, resume: str | os.PathLike[str] = "") -> None:
        """Train until ``max_iter``, or until an action stops it, and snapshot.

        Parameters
        ----------
        feed : source, batch or iterable of batches, optional
            Instead of the solver's own source.
        resume : path, optional
            A solverstate to `restore` first.

        Raises
        ------
        SphereFaceError
            The data ended, or the loss is no number any more (`DivergedError`); or another process
            writes snapshots of the same prefix.
        """
        with SnapshotLock(self.param.snapshot_prefix) if self.snapshots else nullcontext():
            self._solve(feed, resume)

    def _solve(self, feed: Feed | None, resume: str | os.PathLike[str]) -> None:
        param = self.param
        if param.snapshot_after_train and not param.HasField("snapshot_prefix"):
            problem = "no snapshot_prefix for the snapshot after training"
            fix = 'give a snapshot_prefix, or "snapshot_after_train: false"'
            raise SphereFaceError(problem, where=self.file.source, fix=fix)
        for callback in self.callbacks:
            callback.on_solve(self)
        if resume:
            self.tell(f"Restoring previous solver status from {os.fspath(resume)}")
            self.restore(resume)
        with rescued(self):
            self.step(param.max_iter - self.iter, feed)
        if param.snapshot_after_train and not (param.snapshot and self.iter % param.snapshot == 0):
            self.snapshot()
        if self.stopped:
            self.tell("Optimization stopped early.")
            return
        if param.display and self.iter % param.display == 0:
            self._final_loss(self.source if feed is None else as_source(feed))
        if param.test_interval and self.iter % param.test_interval == 0:
            self.test_all()
        self.tell("Optimization Done.")

    def step(self, iterations: int, feed: Feed | None = None) -> None:
        """Train for a number of iterations.

        Parameters
        ----------
        iterations : int
            How many.
        feed : source, batch or iterable of batches, optional
            Instead of the solver's own source. Each of the ``iter_size`` passes of an iteration
            takes one batch.
        """
        source = self.source if feed is None else as_source(feed)
        self._losses.last.clear()
        self.stopped = False
        stop, param = self.iter + iterations, self.param
        while self.iter < stop:
            if (
                param.test_interval
                and self.iter % param.test_interval == 0
                and (self.iter > 0 or param.test_initialization)
            ):
                self.test_all()
                if self.stopped:
                    break
            self._iterate(source)
            action = self._action()
            due = param.snapshot and self.iter % param.snapshot == 0
            if due or action is Action.SNAPSHOT:
                self.snapshot()
            if action is Action.STOP:
                self.stopped = True
                break
        self._look_at_losses()

    def test_all(self) -> list[TestRecord] | None:
        """Run every test net for its ``test_iter`` passes; None if an action stopped it."""
        records = self._tests.run(self.passes, self.iter, self.callbacks, self._interrupted)
        if records is None:
            self.tell("Test interrupted.")
        return records

    def apply_update(self) -> None:
        """Update the weights as `step` does after its passes, and count the iteration."""
        self._update(IterationRecord(self.iter))

    # ---- weights and snapshots

    def copy_from(self, names: str | os.PathLike[str] | Mapping[str, Sequence[Any]]) -> None:
        """Start from trained weights (``--weights``).

        Parameters
        ----------
        names : path or mapping
            As for `start_from`; the callbacks are told what was ignored or not found.
        """
        for line in start_from(names, self.net, self.test_nets):
            self.tell(line)

    def snapshot(self) -> SnapshotFiles | None:
        """Write caffemodel, solverstate and sidecar; return their names (rank 0 only)."""
        self._look_at_losses()
        with split_rows(self.updater) as whole:
            return None if self.rank else self._write_snapshot(whole)

    def _write_snapshot(self, whole: Callable[[Tensor], StreamedArray] | None) -> SnapshotFiles:
        param, where = self.param, self.file.source
        if not param.HasField("snapshot_prefix"):
            raise SphereFaceError("no snapshot_prefix", where=where, expected="where snapshots go")
        hdf5 = param.snapshot_format == param.HDF5
        files = snapshot_files(param.snapshot_prefix, self.iter, hdf5)
        for callback in self.callbacks:
            callback.on_snapshot(files)
        history = self.updater.history_arrays(whole)
        write_snapshot(
            files,
            lambda path: self.net.save(path, diffs=param.snapshot_diff, gathered=whole),
            SolverState(self.iter, str(files.model), history, self.current_step),
            self._state.sidecar(self.iter),
        )
        if self.monitor is not None:
            self.monitor.last_snapshot = str(files.state)
        self.saved_iter = self.iter
        return files

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a snapshot of this solver's or of Caffe's.

        Raises
        ------
        SphereFaceError
            Its files do not belong together, or to this net and solver type; nothing was changed.
        """
        loaded = read_snapshot(path)
        self.updater.check_history(loaded.state.history, os.fspath(path))
        self.net.copy_from(loaded.files.model, strict=True)
        self.updater.load_history(loaded.state.history)
        self.iter, self.current_step = loaded.state.iter, loaded.state.current_step
        self.saved_iter = self.iter
        sidecar = loaded.files.sidecar
        if loaded.sidecar is None:
            lines = [self._state.rebuild(self.iter * self.param.iter_size, sidecar)]
        else:
            lines = self._state.restore(loaded.sidecar, str(sidecar))
        for line in lines:
            self.tell(line)
        self._losses.forget()
        if self.monitor is not None:
            self.monitor.last_snapshot = os.fspath(path)

    @property
    def snapshots(self) -> bool:
        """Whether this process is to write snapshots while it trains."""
        wanted = self.param.snapshot > 0 or self.param.snapshot_after_train
        return wanted and self.param.HasField("snapshot_prefix") and not self.rank

    def tell(self, text: str) -> None:
        """Give a message to the callbacks."""
        for callback in self.callbacks:
            callback.on_message(text)

    @property
    def _state(self) -> RunState:
        return RunState(
            [self.net, *self.test_nets],
            [self.source, *self.test_sources],
            self.passes,
            self.device,
        )

    # ---- an iteration

    def _iterate(self, source: Any) -> None:
        for callback in self.callbacks:
            callback.on_forward(self)
        display = bool(self.param.display) and self.iter % self.param.display == 0
        debug = DebugInfo(self.net, self.tell) if display and self.param.debug_info else None
        self.passes.clear(self.updater.parameters)
        results, samples = [], 0
        for _ in range(self.param.iter_size):
            batch = self._draw(source)
            samples += len(next(iter(batch.values()))) if batch else 0
            with debug.watch(batch) if debug else nullcontext():
                results.append(self.passes.forward_backward(batch))
        self._losses.add(self.iter, results, samples)
        for callback in self.callbacks:
            callback.on_gradients(self)
        if self.device.type == "cpu" or self._losses.unseen >= _LOOK_AT_LOSSES:
            self._look_at_losses()
        record = IterationRecord(
            self.iter,
            display,
            samples,
            results[-1].outputs,
            self.net.loss_weights,
            tuple(self._losses.last),
        )
        self._update(record, debug.update if debug else None)
        for callback in self.callbacks:
            callback.on_iteration(record)

    def _update(
        self, record: IterationRecord, tell: Callable[[str, Tensor, Tensor], None] | None = None
    ) -> None:
        record.rate, step = learning_rate(self.param, self.iter, self.current_step)
        if step != self.current_step and self.param.lr_policy == "multistep":
            record.new_step = step
        self.current_step = step
        grads = self.passes.gradients(self.updater.parameters)
        self.updating = True
        record.gradient_norm = self.updater.apply(grads, record.rate, self.iter, tell)
        self.iter += 1
        self.updating = False

    def _draw(self, source: Any) -> dict[str, Tensor]:
        try:
            return draw(source, self.net, self.device)
        except StopIteration:
            expected = f"a batch for every pass until iteration {self.param.max_iter}"
            problem, where = f"the data ended at iteration {self.iter}", self.file.source
            raise SphereFaceError(problem, where=where, expected=expected) from None

    def _final_loss(self, source: Any) -> None:
        """Caffe's last line: the loss of the final weights, on one more batch."""
        try:
            batch = draw(source, self.net, self.device)
        except StopIteration:
            return
        smoothed = self._losses.smoothed(self.passes.forward(batch).loss)
        self.tell(f"Iteration {self.iter}, loss = {smoothed:g}")

    def _look_at_losses(self) -> None:
        monitor, losses = self.monitor, self._losses
        for iteration, value, samples in losses.take() if monitor else losses.forget():
            rate, _ = learning_rate(self.param, iteration, self.current_step)
            if monitor and (warning := monitor.observe(iteration, value, rate, samples)):
                self.tell(warning)

    def _interrupted(self) -> bool:
        action = self._action()
        if action is Action.SNAPSHOT:
            self.snapshot()
        self.stopped = self.stopped or action is Action.STOP
        return self.stopped

    def _device(self, device: torch.device | str | None) -> torch.device:
        if device is not None:
            return torch.device(device)
        if self.param.solver_mode == self.param.GPU and torch.cuda.is_available():
            return torch.device("cuda", self.param.device_id)
        return torch.device("cpu")
