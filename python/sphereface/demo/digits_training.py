"""The demo's network, trained as Caffe would: by its solver's prototxt, on a MemoryData layer.

The files are models/prototxt/digits_*; a recipe says what a run changes of them. m=1 and m=4 start
from equal weights and see equal batches.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sphereface.caffe import Layer, Net, load
from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Phase
from sphereface.data import MemoryData, Sources, open_sources
from sphereface.errors import SphereFaceError
from sphereface.progress import Progress
from sphereface.proto import text
from sphereface.resources import prototxt_path
from sphereface.solver import Action, IterationRecord, Solver, SolverCallback

__all__ = ["DigitsRun", "Recipe", "fresh_process_features"]


@dataclass(frozen=True)
class Recipe:
    """What a run changes of the prototxts, whose own values these are.

    Attributes
    ----------
    features : int
        K, the width of the embedding.
    epochs : int
        The rate falls to a tenth after three fifths of them.
    batch : int
    lambda_min : float
        Where the annealing of lambda ends.
    """

    features: int = 4
    epochs: int = 20
    batch: int = 64
    lambda_min: float = 2.0


@dataclass(frozen=True)
class DigitsRun:
    """One training.

    Attributes
    ----------
    images : Tensor of shape (S, 1, 8, 8)
    label : Tensor of shape (S,)
        Whole numbers from 0.
    margin : int
        m, 1 to 4.
    seed : int
        Of weights and of the order of the images.
    recipe : Recipe
    """

    images: Tensor
    label: Tensor
    margin: int
    seed: int
    recipe: Recipe

    def solver(
        self,
        prefix: str = "",
        callbacks: Iterable[SolverCallback] = (),
        action: Callable[[], Action] | None = None,
    ) -> Solver:
        """Return the solver; with a `prefix` it snapshots at the end."""
        return Solver(
            self._solver_param(prefix),
            open_source=self._open_source,
            callbacks=callbacks,
            action=action,
        )

    def train(self, progress: Progress | None = None) -> tuple[Net, Layer]:
        """Train; return the net without its head, and the head."""
        callbacks = [_Epochs(self, progress)] if progress else []
        solver = self.solver(callbacks=callbacks)
        solver.solve()
        return self.deployed(solver.net), solver.net.layer("fc6")

    def train_with_interruption(self, prefix: Path) -> Path:
        """Stop halfway with a snapshot, go on from it in a new solver; return the caffemodel."""
        half = self.iterations // 2
        calls = iter(range(1, self.iterations + 1))
        stopped = self.solver(
            str(prefix), action=lambda: Action.STOP if next(calls) == half else Action.NONE
        )
        stopped.solve()
        resumed = self.solver(str(prefix))
        resumed.solve(resume=f"{prefix}_iter_{half}.solverstate")
        return Path(f"{prefix}_iter_{self.iterations}.caffemodel")

    def batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Return the images and labels of an iteration, counted from 0."""
        first = iteration * self.recipe.batch
        rows = self._order()[np.arange(first, first + self.recipe.batch) % len(self.images)]
        return self.images[rows], self.label[rows]

    @property
    def iterations(self) -> int:
        """Batches of all epochs."""
        return self.recipe.epochs * self.per_epoch

    @property
    def per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return len(self.images) // self.recipe.batch

    def _solver_param(self, prefix: str) -> Any:
        param = text.read(prototxt_path("digits_solver"), "SolverParameter")
        param.ClearField("net")
        param.net_param.CopyFrom(self._train_net())
        param.max_iter, param.stepvalue[:] = self.iterations, [self.iterations * 3 // 5]
        param.random_seed, param.display = self.seed, 0
        param.snapshot_after_train = bool(prefix)
        if prefix:
            param.snapshot_prefix = prefix
        return param

    def _train_net(self) -> Any:
        net = self._with_features("digits_train")
        _layer(net, "data").memory_data_param.batch_size = self.recipe.batch
        head = _layer(net, "fc6").margin_inner_product_param
        head.type, head.lambda_min = self.margin - 1, self.recipe.lambda_min
        head.num_output = int(self.label.max()) + 1
        return net

    def _with_features(self, name: str) -> Any:
        net = text.read(prototxt_path(name))
        _layer(net, "fc5").inner_product_param.num_output = self.recipe.features
        return net

    def _open_source(self, graph: NetGraph, phase: Phase) -> Sources | None:
        sources = open_sources(((node.param, node.where) for node in graph.nodes), phase=phase)
        if sources is not None:
            order = self._order()
            for source in sources.members.values():
                assert isinstance(source, MemoryData)
                source.set_arrays(self.images.numpy()[order], self.label.numpy()[order])
        return sources

    def _order(self) -> NDArray[np.int64]:
        return np.random.default_rng(self.seed).permutation(len(self.images))

    def deployed(self, trained: Net) -> Net:
        """Return the net without its head, with the weights of `trained`."""
        net = load(self._with_features("digits_deploy"))
        net.copy_from(
            {
                layer.name: [blob.detach().numpy() for blob in layer.blobs]
                for layer in trained.layers
                if layer.blob_names
            }
        )
        return net


def fresh_process_features(model: Path, images: Tensor) -> NDArray[np.float32]:
    """Return the features of ``sphereface run digits_deploy MODEL``, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given, wanted = Path(folder) / "images.npy", Path(folder) / "features.npy"
        np.save(given, images.numpy())
        command = ["run", "digits_deploy", str(model), str(given), "--output", str(wanted)]
        done = subprocess.run(
            [sys.executable, "-m", "sphereface", *command, "--batch", str(len(images))],
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SphereFaceError(
                f"the new process failed: {done.stderr.strip()}", where="sphereface run"
            )
        return np.load(wanted)


class _Epochs(SolverCallback):
    """Counts epochs of a run on a progress line."""

    def __init__(self, run: DigitsRun, progress: Progress) -> None:
        self._run, self._progress = run, progress

    def on_iteration(self, record: IterationRecord) -> None:
        """Count an epoch at its last iteration."""
        if (record.iteration + 1) % self._run.per_epoch == 0:
            self._progress.update(note=f"m={self._run.margin} loss {record.loss:.3f}")


def _layer(net: Any, name: str) -> Any:
    return next(layer for layer in net.layer if layer.name == name)
