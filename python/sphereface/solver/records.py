"""What a solver tells while it runs, and who may listen.

Losses and outputs stay on the device until somebody looks at them, so that an iteration that
nobody looks at does not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sphereface.solver.snapshot import SnapshotFiles
    from sphereface.solver.solver import Solver

__all__ = ["IterationRecord", "Score", "SolverCallback", "TestRecord", "scores_of"]


class Score(NamedTuple):
    """One value of a net's output."""

    name: str
    value: float
    loss_weight: float


@dataclass
class IterationRecord:
    """One iteration, after its update.

    Attributes
    ----------
    iteration : int
        Caffe's number: of the first it is 0.
    display : bool
        Caffe would log this one.
    samples : int
        Rows of the first input over all passes; 0 for a net without inputs.
    outputs : dict of str to Tensor
        Outputs of the last pass.
    loss_weights : mapping
        Loss weight by output, where there is one.
    losses : sequence of Tensor
        Losses of the last ``average_loss`` iterations of this call of ``step``, this one last.
    rate : float
        The learning rate (``lr``).
    new_step : int, optional
        The step that the multistep policy has just come to.
    figures : dict of str to Tensor
        What callbacks have measured besides, for those that listen after them.
    gradient_norm : Tensor, optional
        L2 norm of all gradients before clipping, with ``clip_gradients``.
    """

    iteration: int
    display: bool = False
    samples: int = 0
    outputs: dict[str, Tensor] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    losses: Sequence[Tensor] = field(default=(), repr=False)
    rate: float = 0.0
    new_step: int | None = None
    gradient_norm: Tensor | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def loss(self) -> float:
        """The loss of this iteration, averaged over its passes."""
        return float(self.losses[-1])

    @cached_property
    def smoothed_loss(self) -> float:
        """The mean of the last ``average_loss`` losses."""
        return float(torch.stack(tuple(self.losses)).mean())

    @cached_property
    def scores(self) -> list[Score]:
        """Every value of every output, in Caffe's order, and of every figure."""
        return scores_of({**self.outputs, **self.figures}, self.loss_weights)


@dataclass
class TestRecord:
    """A test net's scores, averaged over its test_iter passes.

    Attributes
    ----------
    iteration : int
        Updates done.
    net : int
        Which test net.
    scores : list of Score
        Every value of every output, in Caffe's order.
    loss : float, optional
        The mean loss, with ``test_compute_loss``.
    """

    __test__: ClassVar[bool] = False  # no test class of pytest's

    iteration: int
    net: int
    scores: list[Score]
    loss: float | None = None


def scores_of(outputs: Mapping[str, Tensor], loss_weights: Mapping[str, float]) -> list[Score]:
    """Return every value of `outputs`."""
    return [
        Score(name, value, loss_weights.get(name, 0.0))
        for name, output in outputs.items()
        for value in output.detach().flatten().tolist()
    ]


class SolverCallback:
    """Listens to a solver; subclasses override what they want to hear."""

    def columns(self, solver: Solver) -> Sequence[str]:
        """Return the names of the values that this listener will add to records."""
        return ()

    def on_solve(self, solver: Solver) -> None:
        """Hear that `solve` begins."""

    def on_forward(self, solver: Solver) -> None:
        """Hear that an iteration begins (Caffe's ``on_start``)."""

    def on_gradients(self, solver: Solver) -> None:
        """Hear that gradients are summed, not yet clipped (``on_gradients_ready``)."""

    def on_iteration(self, record: IterationRecord) -> None:
        """Hear that an iteration is done."""

    def on_test_start(self, iteration: int, net: int) -> None:
        """Hear that a test net is about to run."""

    def on_test(self, record: TestRecord) -> None:
        """Hear what a test net gave."""

    def on_snapshot(self, files: SnapshotFiles) -> None:
        """Hear that a snapshot is about to be written."""

    def on_message(self, text: str) -> None:
        """Hear what a log should hold."""
