"""What tells how a net with a margin learns: its loss and accuracy as if there were no margin.

The loss of a margin grows while lambda falls and may stay above ln N, that of a guess among N
classes, in a run that goes well; nothing in the logs of the original tells the two apart. Source:
none. The figures are of an iteration's own batch and of the weights before its update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe import Net
from sphereface.caffe.layers.margin_inner_product import AnnealedProduct
from sphereface.solver.records import IterationRecord, SolverCallback

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["MarginFigures", "batch_figures"]

_LOSS, _ACCURACY, _COSINE, _NORM = (
    "loss_without_margin",
    "accuracy_without_margin",
    "target_cosine",
    "embedding_norm",
)


@torch.no_grad()
def batch_figures(layer: AnnealedProduct, rows: Tensor, labels: Tensor) -> Tensor:
    """Return what a batch is to a margin layer.

    Parameters
    ----------
    layer : AnnealedProduct
    rows : Tensor of shape (M, K)
        Embeddings.
    labels : Tensor of shape (M,), int64
        Rows whose label is no class are left out.

    Returns
    -------
    Tensor of shape (4,), float32
        Means: cross entropy without a margin; share of rows whose largest such logit is the
        label's; cosine of a row and its class; norm of a row. NaN if no row has a class.
    """
    known = (labels >= 0) & (labels < layer.num_output)
    rows, labels = rows[known].float(), labels[known]
    logits = layer.plain_logits(rows)
    return torch.stack(
        [
            F.cross_entropy(logits, labels),
            (logits.argmax(dim=1) == labels).float().mean(),
            F.cosine_similarity(rows, layer.weight[labels].float()).mean(),
            rows.norm(dim=1).mean(),
        ]
    )


class MarginFigures(SolverCallback):
    """Adds `batch_figures` of each margin layer to the records of displayed iterations.

    They are called ``fc6/loss_without_margin``, ``fc6/accuracy_without_margin``,
    ``fc6/target_cosine`` and ``fc6/embedding_norm``. Listeners that show them come after it. Once,
    it notes that the loss is above ln N because of the margin.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[Tensor]] = {}
        self._solver: Solver | None = None
        self._noted = False

    def columns(self, solver: Solver) -> Sequence[str]:
        """Return the figures' names."""
        names = (_LOSS, _ACCURACY, _COSINE, _NORM)
        return [f"{layer.name}/{name}" for layer in _layers(solver.net) for name in names]

    def on_forward(self, solver: Solver) -> None:
        """Look at the rows of an iteration that is to be displayed."""
        self._solver, self._found = solver, {}
        display = solver.param.display
        if display and solver.iter % display == 0:
            for layer in _layers(solver.net):
                self._found[layer.name] = []
                layer.on_rows = partial(self._look, layer)

    def on_iteration(self, record: IterationRecord) -> None:
        """Add what was seen to the record."""
        if not self._found or self._solver is None:
            return
        for layer in _layers(self._solver.net):
            layer.on_rows = None
        means = {name: torch.stack(seen).mean(dim=0) for name, seen in self._found.items() if seen}
        for name, figures in means.items():
            for kind, value in zip((_LOSS, _ACCURACY, _COSINE, _NORM), figures, strict=True):
                record.figures[f"{name}/{kind}"] = value
        if not self._noted and len(means) == 1 and list(record.loss_weights.values()) == [1.0]:
            self._note(record, *means)

    def _look(self, layer: AnnealedProduct, rows: Tensor, labels: Tensor) -> None:
        with torch.autocast(rows.device.type, enabled=False):
            self._found[layer.name].append(batch_figures(layer, rows, labels))

    def _note(self, record: IterationRecord, name: str) -> None:
        assert self._solver is not None
        layer = next(layer for layer in _layers(self._solver.net) if layer.name == name)
        guess, plain = math.log(layer.num_output), float(record.figures[f"{name}/{_LOSS}"])
        if layer.margin > 1 and record.loss > guess > plain:
            self._noted = True
            self._solver.tell(
                f"Note: the loss {record.loss:.4g} is above ln {layer.num_output} = {guess:.4g}, "
                f"that of a guess, because of the margin (lambda is "
                f"{layer.annealing.at(int(layer.iteration)):g}); without it it is {plain:.4g}. "
                f"{name}/{_LOSS} and {name}/{_ACCURACY} tell how the net learns"
            )


def _layers(net: Net) -> list[AnnealedProduct]:
    return [layer for layer in net.layers if isinstance(layer, AnnealedProduct)]
