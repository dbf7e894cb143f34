"""What tells how a net with a margin learns: its loss and accuracy as if there were no margin.

The loss of a margin grows while lambda falls and may stay above ln N, that of a guess among N
classes, in a run that goes well; nothing in the logs of the original tells the two apart. Source:
none. The figures are of an iteration's own batch and of the weights before its update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sphereface.solver.margin_heads import MarginHead, margin_heads
from sphereface.solver.records import IterationRecord, SolverCallback

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["MarginFigures"]

_LOSS, _ACCURACY, _COSINE, _NORM = (
    "loss_without_margin",
    "accuracy_without_margin",
    "target_cosine",
    "embedding_norm",
)


class MarginFigures(SolverCallback):
    """Adds what a batch is to each `MarginHead` to the records of displayed iterations.

    The figures are called ``fc6/loss_without_margin``, ``fc6/accuracy_without_margin``,
    ``fc6/target_cosine`` and ``fc6/embedding_norm``. Listeners that show them come after it. Once,
    it notes that the loss is above ln N because of the margin.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[Tensor]] = {}
        self._heads: list[MarginHead] = []
        self._solver: Solver | None = None
        self._noted = False

    def columns(self, solver: Solver) -> Sequence[str]:
        """Return the figures' names."""
        names = (_LOSS, _ACCURACY, _COSINE, _NORM)
        return [f"{head.name}/{name}" for head in margin_heads(solver.net) for name in names]

    def on_forward(self, solver: Solver) -> None:
        """Look at the rows of an iteration that is to be displayed."""
        self._solver, self._found = solver, {}
        display = solver.param.display
        if display and solver.iter % display == 0:
            self._heads = margin_heads(solver.net)
            for head in self._heads:
                self._found[head.name] = []
                head.watch(self._found[head.name].append)

    def on_iteration(self, record: IterationRecord) -> None:
        """Add what was seen to the record."""
        for head in self._heads:
            head.unwatch()
        heads, self._heads = self._heads, []
        for head in heads:
            if seen := self._found[head.name]:
                means = torch.stack(seen).mean(dim=0)
                for kind, value in zip((_LOSS, _ACCURACY, _COSINE, _NORM), means, strict=True):
                    record.figures[f"{head.name}/{kind}"] = value
        if not self._noted and len(heads) == 1 and list(record.loss_weights.values()) == [1.0]:
            self._note(record, heads[0])

    def _note(self, record: IterationRecord, head: MarginHead) -> None:
        assert self._solver is not None
        name, found = head.name, record.figures.get(f"{head.name}/{_LOSS}")
        guess = math.log(head.classes)
        if found is not None and record.loss > guess > float(found):
            self._noted = True
            self._solver.tell(
                f"Note: the loss {record.loss:.4g} is above ln {head.classes} = {guess:.4g}, "
                f"that of a guess, because of the margin ({head.margin()}); without it it is "
                f"{float(found):.4g}. {name}/{_LOSS} and {name}/{_ACCURACY} tell how the net learns"
            )
