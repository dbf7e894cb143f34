"""``caffe.SGDSolver`` and its kin, and ``caffe.get_solver``, over `sphereface.solver.Solver`.

Source: the Solver classes of _caffe.cpp. What differs: Caffe's log goes to stderr unless
GLOG_minloglevel or `init_log` say otherwise, without glog's own start-up lines; a snapshot has a
third file, by which `restore` goes on bit by bit; a loss that is no number does not end the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sphereface import solver
from sphereface.caffe import OpenNet
from sphereface.pycaffe.build import open_with_splits
from sphereface.pycaffe.glog import logs_information
from sphereface.pycaffe.mode import current_device
from sphereface.pycaffe.net import Net
from sphereface.pycaffe.ranks import NCCL
from sphereface.pycaffe.vectors import NetVec
from sphereface.solver.config import NetSource
from sphereface.solver.lr_policy import learning_rate
from sphereface.solver.passes import Pass, Passes, share_trained_layers
from sphereface.solver.records import SolverCallback
from sphereface.solver.update_rules import RULES

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "get_solver",
    "get_solver_from_file",
]


class _Nets(solver.SolverNets):
    """Opens the nets with Caffe's Splits, and runs them on the blobs of their ``caffe.Net``."""

    def _open(self, source: NetSource, *, fill: bool) -> OpenNet:
        return open_with_splits(source.file, source.phase, source.level, source.stages, fill=fill)

    def passes(self, opened: OpenNet, device: torch.device, *, trained: bool) -> Passes:
        """Return what runs a net."""
        return _BlobPasses(Net.of(opened))


class _BlobPasses(Passes):
    """Runs a ``caffe.Net`` on its blobs, which stay for the program to see."""

    def __init__(self, net: Net) -> None:
        super().__init__(net.module)
        self.blobs, self.execution = net, net.execution
        self._last = len(self.net.layers) - 1
        self._blob_of = {
            id(tensor): blob
            for layer, blobs in zip(self.net.layers, self.execution.params, strict=True)
            for tensor, blob in zip(layer.blobs, blobs, strict=True)
        }

    def clear(self, parameters: Sequence[Tensor]) -> None:
        """Set the diffs of all blobs to zero."""
        device = current_device()
        self.execution.place(device)
        for blob in self._blob_of.values():
            blob.diff_tensor(device, write=True).zero_()

    def forward(self, batch: Mapping[str, Tensor]) -> Pass:
        """Run a forward."""
        loss = self.execution.forward(0, self._last)
        outputs = {
            name: torch.from_numpy(self.blobs.blobs[name].data.copy()) for name in self.net.outputs
        }
        return Pass(torch.tensor(loss), outputs)

    def forward_backward(self, batch: Mapping[str, Tensor]) -> Pass:
        """Run a forward and a backward, which adds to the diffs."""
        result = self.forward(batch)
        self.execution.backward(self._last, 0)
        return result

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the diffs of the parameter blobs themselves."""
        self.execution.place(current_device())
        for parameter in parameters:
            parameter.grad = self._blob_of[id(parameter)].diff_tensor(parameter.device, write=True)
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def share_with(self, trained: Passes) -> None:
        """Let the blobs, and the counters of margin layers, be those of `trained`."""
        assert isinstance(trained, _BlobPasses)
        share_trained_layers(self.net, trained.net)
        self.blobs.share_with(trained.blobs)


def _blobs(passes: Passes) -> Net:
    assert isinstance(passes, _BlobPasses)
    return passes.blobs


class _Callback(SolverCallback):
    """The two functions of ``add_callback``."""

    def __init__(self, on_start: Callable[[], Any], on_gradients: Callable[[], Any]) -> None:
        self._on_start, self._on_gradients = on_start, on_gradients

    def on_forward(self, _: solver.Solver) -> None:
        self._on_start()

    def on_gradients(self, _: solver.Solver) -> None:
        self._on_gradients()


class SGDSolver:
    """A solver of a prototxt's nets.

    Parameters
    ----------
    param_file : path
        The solver's prototxt; its ``type`` gives way to that of the class.

    Attributes
    ----------
    net : Net
        The train net.
    test_nets : NetVec
        The test nets, which share its weights.
    param : SolverParameter
        What the file says.
    """

    type: ClassVar[str] = "SGD"

    def __init__(self, param_file: str | os.PathLike[str]) -> None:
        file = solver.read_solver(param_file)
        if file.param.type != self.type:
            param = type(file.param).FromString(file.param.SerializeToString())
            param.type = self.type
            RULES[self.type].check(param, file.source)
            file = replace(file, param=param)
        self._solver = solver.Solver(
            file,
            nets=_Nets(),
            device="cpu",
            callbacks=[solver.CaffeLog()] if logs_information() else [],
        )
        self._solver.monitor = None
        self._solver.updater.keep_updates = True
        self.net: Net = _blobs(self._solver.passes)
        self.test_nets = NetVec(_blobs(passes) for passes in self._solver.test_passes)
        self.param: Any = self._solver.param

    @property
    def iter(self) -> int:
        """Updates done."""
        return self._solver.iter

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return learning_rate(self.param, self.iter, self._solver.current_step)[0]

    def step(self, iterations: int) -> None:
        """Train for a number of iterations."""
        self._solver.step(iterations)

    def solve(self, resume_file: str | os.PathLike[str] | None = None) -> None:
        """Train until ``max_iter`` and snapshot, from `resume_file` on if it is given."""
        self._solver.solve(resume=resume_file or "")

    def snapshot(self) -> None:
        """Write a snapshot under ``snapshot_prefix``."""
        self.net.execution.to_host()
        self._solver.snapshot()

    def restore(self, state_file: str | os.PathLike[str]) -> None:
        """Go on from a solverstate."""
        self.net.execution.to_host()
        self._solver.restore(state_file)

    def share_weights(self, net: Net) -> None:
        """Let the layers of `net` use the weights of the train net."""
        net.share_with(self.net)

    def apply_update(self) -> None:
        """Update the weights by the diffs there are, and count the iteration."""
        self._solver.apply_update()

    def add_callback(
        self, on_start: Callable[[], Any] | NCCL, on_gradients: Callable[[], Any] = lambda: None
    ) -> None:
        """Call two functions in every iteration: before its forward, and before its update.

        An `NCCL` instead of them has nothing to do.
        """
        if not isinstance(on_start, NCCL):
            self._solver.callbacks.append(_Callback(on_start, on_gradients))


class NesterovSolver(SGDSolver):
    """See `SGDSolver`."""

    type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """See `SGDSolver`."""

    type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """See `SGDSolver`."""

    type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """See `SGDSolver`."""

    type = "AdaDelta"


class AdamSolver(SGDSolver):
    """See `SGDSolver`."""

    type = "Adam"


_CLASSES = {
    cls.type: cls
    for cls in (
        SGDSolver,
        NesterovSolver,
        AdaGradSolver,
        RMSPropSolver,
        AdaDeltaSolver,
        AdamSolver,
    )
}


def get_solver(param_file: str | os.PathLike[str]) -> SGDSolver:
    """Return the solver of the ``type`` that a prototxt gives."""
    return _CLASSES[solver.read_solver(param_file).param.type](param_file)


get_solver_from_file = get_solver
"""Its name in Caffe's branch for Windows."""
