"""A net whose classes are split over the training processes (``--shard-classes``).

A MarginInnerProduct that only SoftmaxWithLoss and Accuracy read gives them the loss and the hit of
each row instead of logits, which no process holds. Source: the layers of these names. What differs:
of equal scores the label counts for Accuracy if it is the first, in Caffe if it is the last.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe import Layer
from sphereface.caffe.fillers import fill_
from sphereface.caffe.graph import NetGraph, Node
from sphereface.caffe.indices import counted_labels
from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.accuracy import Accuracy
from sphereface.caffe.layers.margin_inner_product import MarginInnerProduct
from sphereface.caffe.layers.softmax_loss import SoftmaxWithLoss
from sphereface.class_range import ClassRange
from sphereface.distributed.ranks import Ranks
from sphereface.distributed.row_losses import row_losses
from sphereface.distributed.row_problem import RowProblem
from sphereface.distributed.row_service import RowService, scatter_rows
from sphereface.distributed.sampling import ClassSampler
from sphereface.errors import SphereFaceError
from sphereface.margin_policy import ASoftmax
from sphereface.solver.config import SolverFile
from sphereface.solver.gradients import Updater
from sphereface.weights import StreamedArray

__all__ = ["Sharing", "SplitProduct", "check_sharing", "shard_classes", "split_rows"]

_LOSS, _HIT = 0, 1
# Fillers that draw every row alike, and chunk after chunk what they draw at once.
_FILLERS = ("constant", "uniform", "gaussian", "xavier", "msra")


@dataclass(frozen=True)
class Sharing:
    """Who shares the classes.

    Attributes
    ----------
    ranks : Ranks
        For the tensors of a pass.
    control : Ranks
        The same processes, for tensors on CPUs.
    sample_rate : float
        The part of each process's classes that takes part in an iteration.
    seed : int
        The solver's random_seed, which the draws follow; the same on every process.
    """

    ranks: Ranks
    control: Ranks
    sample_rate: float = 1.0
    seed: int = 0

    def sampler(self, name: str) -> ClassSampler:
        """Return what draws the classes of the layer of this name."""
        salt = zlib.crc32(name.encode("utf-8", "surrogateescape"))
        words = np.random.SeedSequence([self.seed, salt]).generate_state(1, np.uint64)
        return ClassSampler(self.sample_rate, int(words[0]) >> 1)


def check_sharing(file: SolverFile) -> None:
    """Refuse what a solver does with whole weights.

    Raises
    ------
    SphereFaceError
        ``snapshot_diff``, ``debug_info`` or snapshots in HDF5.
    """
    param = file.param
    for asked, name in (
        (param.snapshot_diff, "snapshot_diff: true"),
        (param.debug_info, "debug_info: true"),
        (param.snapshot_format == param.HDF5, "snapshot_format: HDF5"),
    ):
        if asked:
            raise SphereFaceError(
                name, where=file.source, expected="a solver without it, with --shard-classes"
            )


@contextlib.contextmanager
def split_rows(updater: Updater) -> Iterator[Callable[[Tensor], StreamedArray] | None]:
    """Let process 0 read whole weights and histories within the block, while the others serve.

    Yields what returns the whole of a split tensor; None if none is split.
    """
    sharing = updater.sharing
    if sharing is None:
        yield None
        return
    parts = [part for part in updater.parts if part is not None]
    histories = [
        tensor
        for tensor, part in zip(updater.history, itertools.cycle(updater.parts), strict=False)
        if part is not None
    ]
    tensors = zip([*updater.split, *histories], itertools.cycle(parts), strict=False)
    with RowService(sharing.control, list(tensors)) as service:
        yield service.whole


def shard_classes(graph: NetGraph, sharing: Sharing) -> NetGraph:
    """Return the net with the weights of its margin layers split.

    Raises
    ------
    SphereFaceError
        There is no such layer, or another layer needs its logits.
    """
    nodes = list(graph.nodes)
    heads = [node for node in nodes if node.layer_class is MarginInnerProduct]
    for head in heads:
        readers = [node for node in nodes if head.tops[0] in node.bottoms]
        for node in readers:
            nodes[node.index] = replace(node, layer_class=_reader_class(node, head))
        if not readers or head.tops[0] in graph.outputs.values():
            raise _not_split(head, "logits that are an output of the net")
        bound = type("MarginInnerProduct", (SplitProduct,), {"sharing": sharing})
        nodes[head.index] = replace(head, layer_class=bound)
    if not heads:
        raise SphereFaceError(
            f'net "{graph.name}" has no MarginInnerProduct', where="--shard-classes"
        )
    return replace(graph, nodes=nodes)


def _reader_class(node: Node, head: Node) -> type[Layer]:
    options = {"SoftmaxWithLoss": _RowLoss, "Accuracy": _RowAccuracy}
    if node.type not in options or node.bottoms[0] != head.tops[0] or len(node.tops) > 1:
        raise _not_split(node, f'a reader of the logits of "{head.name}"')
    return options[node.type]


def _not_split(node: Node, problem: str) -> SphereFaceError:
    return SphereFaceError(
        problem,
        where=node.where,
        expected="with --shard-classes, SoftmaxWithLoss and Accuracy of one top as only readers",
    )


class _SameRows(Ranks):
    """The processes of a test, which all have the same rows: nothing is gathered."""

    def __init__(self, ranks: Ranks) -> None:
        self.group, self.rank, self.ranks = ranks.group, ranks.rank, ranks.ranks

    def sizes(self, count: int, device: torch.device) -> list[int]:
        return [count if rank == self.rank else 0 for rank in range(self.ranks)]

    def gather(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        return rows


class SplitProduct(MarginInnerProduct):
    """A MarginInnerProduct of which a process has the rows of some classes.

    `sampler`, if there is one, draws those that take part in an iteration; its numbers follow from
    the solver's random_seed, the layer's name, the count of draws and the classes that are here.
    """

    sharing: ClassVar[Sharing]
    sampler: ClassSampler | None = None

    def add_blob(
        self, name: str, shape: Shape, filler: Any = None, *, buffer: bool = False
    ) -> None:
        """Create the blob with this process's rows only."""
        ranks = self.sharing.ranks
        self.part = ClassRange.of(ranks.rank, ranks.ranks, shape[0])
        super().add_blob(name, (self.part.count, *shape[1:]), filler, buffer=buffer)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Refuse what needs whole weights."""
        super().setup(bottom_shapes)
        self.fuses = False  # it is one with the loss of all ranks already
        if self.sharing.sample_rate < 1:
            self.sampler = self.sharing.sampler(self.name)
        filler = self.options.weight_filler
        if (
            filler.type not in _FILLERS
            or filler.sparse >= 0
            or filler.variance_norm != filler.FAN_IN
        ):
            raise self.error(
                f"weight_filler {filler.type}",
                expected=f"with --shard-classes, {', '.join(_FILLERS)} by FAN_IN and not sparse",
            )
        if self.axis != 1:
            raise self.error(f"axis {self.axis}", expected="1 with --shard-classes")
        if self.triplet or self.semihard:
            raise self.error("triplet or semihard", expected="neither with --shard-classes")

    def fill(self, generator: torch.Generator | None = None) -> None:
        """Take this process's rows of what process 0 draws."""
        filler = self._fillers.get("weight")
        self.drop_fillers()
        if filler is not None:
            assert self.part is not None
            weight = self.weight.detach()
            scatter_rows(
                self.sharing.control, weight, self.part, lambda rows: fill_(rows, filler, generator)
            )

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the loss and the hit of each row, (M, 2), in the place of the logits."""
        assert self.part is not None
        ranks = self.sharing.ranks
        exact = self.gradient == "exact" or not self.training
        problem = RowProblem(
            self.part,
            ranks if self.training else _SameRows(ranks),
            ASoftmax(self.margin),
            exact=exact,
            in_place=not exact,
            input_scale=ranks.ranks,
            loss_scale=1 / ranks.ranks,
            sampler=self.sampler if self.training else None,
            want_stats=True,
        )
        if torch.is_autocast_enabled(x.device.type):
            x = x.float()
        try:
            losses, _, stats, _ = row_losses(x, self.weight, label, lambda_, problem)
        except SphereFaceError as error:
            raise error.at(self.where) from None
        return torch.stack([losses, (stats.prediction == label).to(losses)], dim=1)


class _RowLoss(SoftmaxWithLoss):
    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        if self.layer_param.loss_param.weight_by_label_freqs:
            raise self.error("weight_by_label_freqs", expected="none with --shard-classes")
        super().setup(bottom_shapes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        classes = torch.iinfo(torch.int64).max  # the margin layer has looked at their range
        _, valid = counted_labels(self, label, classes, self.ignore_label)
        return self.total(x[:, _LOSS], valid, len(x))


class _RowAccuracy(Accuracy):
    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        super().setup(bottom_shapes)
        if self.top_k != 1 or self.min_is_better:
            raise self.error(f"top_k {self.top_k}", expected="1 with --shard-classes")

    @torch.no_grad()
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        classes = torch.iinfo(torch.int64).max
        _, valid = counted_labels(self, label, classes, self.ignore_label)
        hits = x[:, _HIT]
        return hits.mean() if valid is None else hits.where(valid, 0).sum() / valid.sum()
