"""Margin softmax cross entropy of rows against classes that are split over processes.

Source: Deng et al., "ArcFace", CVPR 2019 (parallel acceleration), and An et al., "Partial FC",
2021. What differs from their code: the gradient goes through margin and normalisations; no process
holds logits of its classes unless it may; nothing but max, sum and target of each row is summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sphereface.distributed.row_problem import RowProblem
from sphereface.errors import NonFiniteError
from sphereface.loss_options import kept_buffers
from sphereface.ops import normalize_rows_
from sphereface.ops.class_part import COLUMNS, class_part_gradients, class_part_rows
from sphereface.ops.margin_softmax import MarginSoftmaxStats

__all__ = ["row_losses"]

_MAX, _SUM, _WEIGHTED, _TARGET, _PLAIN, _COSINE, _OTHER, _OTHER_CLASS = range(len(COLUMNS))


def row_losses(
    x: Tensor,
    weight: Tensor,
    label: Tensor,
    lambda_: Tensor,
    problem: RowProblem,
    class_weight: Tensor | None = None,
    weight_sum: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor, MarginSoftmaxStats, Tensor]:
    """Return the losses of this process's rows against the classes of all processes.

    Every process calls it, and the backward, together with the others.

    Parameters
    ----------
    x : Tensor of shape (M, K)
        This process's rows.
    weight : Tensor of shape (N, K)
        The rows of ``problem.classes``.
    label : Tensor of shape (M,), int64
        Counted over all classes.
    lambda_ : Tensor of shape ()
        The annealing weight.
    problem : RowProblem
        All else.
    class_weight, weight_sum : Tensor of shape (N,) and (), optional
        The weights of ``problem.classes``, and the sum over all classes.
    lengths : Tensor of shape (M,), optional
        Those of the rows, if x is not to tell them.

    Returns
    -------
    losses : Tensor of shape (M,)
        float32 (float64 for float64); differentiable.
    counts : Tensor of shape (M,)
        What each row counts in the mean: 1 or its label's weight, 0 if it is ignored.
    stats : MarginSoftmaxStats
        Predictions are -1 unless ``problem.want_stats``.
    means : Tensor of shape (2,), float64
        Of all processes' rows: cosine with the label's weight (NaN if none has a label), length.

    Raises
    ------
    SphereFaceError, RuntimeError
        As `sphereface.margin_softmax_loss`.
    NonFiniteError
        On the CPU, also when another process met a row that is not finite.
    """
    ranks, own = problem.ranks, len(x)
    sizes = [own] * ranks.ranks if problem.equal_batches else ranks.sizes(own, x.device)
    if lengths is None:
        lengths = torch.linalg.vector_norm(x.detach(), dim=1)
    if problem.products is not None:
        x = x.to(problem.products)
    labels = ranks.gather(label, sizes)
    sampled = None
    if problem.sampler is not None:
        sampled = problem.sampler.draw(labels, problem.classes)
    failure = _normalise(weight, sampled) if problem.in_place else None
    step = _Step(problem, labels, sizes, sampled, failure, lengths.detach().sum().double())
    outputs = _RowLosses.apply(x, weight, lambda_, class_weight, weight_sum, step)
    losses, counts, means, *stats = outputs
    return losses, counts, MarginSoftmaxStats(*stats), means


@torch.no_grad()
def _normalise(weight: Tensor, sampled: Tensor | None) -> Exception | None:
    """Make the rows that take part unit rows; return the error, for which the others wait."""
    rows = weight if sampled is None else weight[sampled]
    try:
        normalize_rows_(rows)
    except NonFiniteError as error:
        return error
    if sampled is not None:
        weight.index_copy_(0, sampled, rows)
    return None


@dataclass(frozen=True)
class _Step:
    """A RowProblem with what all processes know of this step."""

    problem: RowProblem
    label: Tensor  # of all rows
    sizes: Sequence[int]
    sampled: Tensor | None  # the rows of the weight that take part, in rising order
    failure: Exception | None
    length: Tensor  # of this process's rows together

    @property
    def mine(self) -> slice:
        """Where this process's rows are among all."""
        rank = self.problem.ranks.rank
        return slice(sum(self.sizes[:rank]), sum(self.sizes[: rank + 1]))


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        lambda_: Tensor,
        class_weight: Tensor | None,
        weight_sum: Tensor | None,
        step: _Step,
    ) -> tuple[Tensor, ...]:
        problem = step.problem
        rows = problem.ranks.gather(x, step.sizes)
        part = _Part.of(weight, step)
        keeps = [False, False]
        unit_rows = problem.in_place or problem.margin.free_weight
        if any(ctx.needs_input_grad[:2]):
            sizes = (len(rows) * len(part.weight), 0 if unit_rows else part.weight.numel())
            keeps = kept_buffers(problem.memory, *(rows.element_size() * n for n in sizes))
        options = (*problem.margin.core(), problem.exact, unit_rows, problem.ignore_index,
                   problem.label_smoothing)  # fmt: skip
        tensors = (rows, part.weight, part.label, lambda_)
        merged = _Merged(step, part, class_weight, weight_sum)
        with torch.autocast(x.device.type, enabled=False):
            logits, unit = merged.take((*tensors, None, *options), keeps)
        dtype = torch.promote_types(x.dtype, torch.float32)
        others = (merged.counts(dtype), merged.means, *merged.stats(dtype))
        ctx.save_for_backward(
            *tensors, unit, merged.lse, class_weight, weight_sum, merged.label_weight
        )
        ctx.options, ctx.part, ctx.step = options, part, step
        # Not a saved tensor: the backward turns it into the gradient and lets it go.
        ctx.shape, ctx.dtype, ctx.logits = weight.shape, weight.dtype, logits
        ctx.mark_non_differentiable(*others)
        return merged.losses().to(dtype), *others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        step, part, problem = ctx.step, ctx.part, ctx.step.problem
        x, weight, label, lambda_, unit, lse, *weights = ctx.saved_tensors
        grads = problem.ranks.gather(grad * problem.loss_scale, step.sizes)
        logits, ctx.logits = ctx.logits, None
        if logits is None:  # a second backward
            logits = x.new_empty(0, 0)
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        dx, dweight = class_part_gradients(grads, lse, logits, unit, x, weight, label, lambda_,
                                           None, *ctx.options, *weights, None, part.first,
                                           part.total, needs_x, needs_weight, False)  # fmt: skip
        if needs_x:
            # 16-bit shares are summed in float32 and rounded once.
            wide = dx.to(torch.promote_types(dx.dtype, torch.float32))
            dx = problem.ranks.scatter_sum(wide, step.sizes).mul_(problem.input_scale).to(dx.dtype)
        dweight = dweight.to(ctx.dtype)
        if needs_weight and step.sampled is not None:
            dweight = torch.sparse_coo_tensor(
                step.sampled[None],
                dweight,
                ctx.shape,
                is_coalesced=True,
                check_invariants=False,
            )
        return dx if needs_x else None, dweight if needs_weight else None, *[None] * 4


@dataclass(frozen=True)
class _Part:
    """The classes that this process puts into the softmax, and the labels as it counts them."""

    weight: Tensor
    label: Tensor  # counted as `first` and `total` are
    first: int
    total: int
    here: Tensor  # which rows have their label on this process

    @classmethod
    def of(cls, weight: Tensor, step: _Step) -> _Part:
        label, problem, sampled = step.label, step.problem, step.sampled
        classes = problem.classes
        position = label - classes.first
        here = (position >= 0) & (position < classes.count)
        if problem.ignore_index is not None:
            here &= label != problem.ignore_index
        if sampled is None:
            return cls(_rounded(weight, problem), label, classes.first, classes.total, here)
        # Among the sampled rows 0 to S - 1; S stands for a class that another process has.
        count = len(sampled)
        counted = torch.searchsorted(sampled, position.where(here, 0))
        known = (label >= 0) & (label < classes.total)
        counted = counted.where(here, torch.full_like(label, count).where(known, label))
        return cls(_rounded(weight[sampled], problem), counted, 0, count + 1, here)


def _rounded(weight: Tensor, problem: RowProblem) -> Tensor:
    return weight if problem.products is None else weight.to(problem.products)


class _Merged:
    """What all processes together know of each row."""

    lse: Tensor
    means: Tensor

    def __init__(
        self, step: _Step, part: _Part, class_weight: Tensor | None, weight_sum: Tensor | None
    ) -> None:
        self.step, self.problem, self.part = step, step.problem, part
        self.class_weight, self.weight_sum = class_weight, weight_sum
        self.label_weight: Tensor | None = None

    def take(self, arguments: Sequence[Any], keeps: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Walk over this process's classes, put the rows together, and return what is kept."""
        problem, part, ranks = self.problem, self.part, self.problem.ranks
        label, failure = self.step.label, self.step.failure
        try:
            if failure is not None:
                raise failure
            rows, *kept = class_part_rows(*arguments, self.class_weight, self.weight_sum, None,
                                          None, part.first, part.total, *keeps)  # fmt: skip
        except Exception as error:
            # The others wait for this process's numbers before they can be told.
            if ranks.ranks == 1:
                raise
            failure = error
            rows = torch.full((len(label), len(COLUMNS)), torch.nan, dtype=torch.float64)
            rows[:, _MAX] = rows[:, _OTHER] = -torch.inf
            rows, kept = rows.to(label.device), [label, label]
        here = part.here
        own_max = rows[:, _MAX]
        maxima = ranks.largest(rows[:, [_MAX, _OTHER] if problem.want_stats else [_MAX]].T.clone())
        # A range without classes has max -inf and sum 0.
        sums = {"sum": rows[:, _SUM] * torch.exp(own_max - maxima[0])}
        columns = {"target": _TARGET}
        if problem.want_stats:
            columns |= {"cosine": _COSINE, "plain": _PLAIN}
        sums |= {name: rows[:, column].where(here, 0) for name, column in columns.items()}
        if problem.label_smoothing:
            sums["weighted"] = rows[:, _WEIGHTED]
        if self.class_weight is not None:
            position = (label - problem.classes.first).where(here, 0)
            padded = torch.cat([self.class_weight, self.class_weight.new_zeros(1)])
            sums["label_weight"] = padded[position].where(here, 0).double()
        cosines = rows[:, _COSINE].where(here, 0).sum()
        noted = torch.stack([cosines, here.sum(), self.step.length.to(cosines)])
        both = ranks.total(torch.cat([torch.stack(list(sums.values())).flatten(), noted]))
        totals, noted = both[:-3].view(len(sums), -1), both[-3:]
        self.sums = dict(zip(sums, totals, strict=True))
        self.means = torch.stack([noted[0] / noted[1], noted[2] / len(label)])
        if failure is not None:
            raise failure
        if ranks.ranks > 1 and totals.device.type == "cpu" and totals[0].isnan().any():
            raise NonFiniteError(
                "another process met a value that is not finite",
                where="ShardedMarginLoss",
                fix="its own message says which",
            )
        self.lse = maxima[0] + self.sums["sum"].log()
        if self.class_weight is not None:
            self.label_weight = self.sums["label_weight"].to(self.class_weight.dtype)
        if problem.want_stats:
            self._other = maxima[1]
            classes = rows.view(torch.int64)[:, _OTHER_CLASS]
            leads = (rows[:, _OTHER] == self._other) & (classes >= 0)
            none = torch.full_like(classes, problem.classes.total)
            self._other_class = ranks.smallest(self._counted_over_all(classes).where(leads, none))
        return kept[0], kept[1]

    def losses(self) -> Tensor:
        """Return the losses of this process's rows; the formula of softmax_rows.h."""
        problem, mine = self.problem, self.step.mine
        label = self.step.label[mine]
        total = problem.classes.total
        lse, target = self.lse[mine], self.sums["target"][mine]
        hit = (1 - problem.label_smoothing) * (lse - target)
        if self.class_weight is not None:
            hit = hit * self.sums["label_weight"][mine]
        loss = hit
        if problem.label_smoothing:
            weights: Tensor | int = total if self.weight_sum is None else self.weight_sum
            spread = problem.label_smoothing / total
            loss = hit + spread * (weights * lse - self.sums["weighted"][mine])
        loss = loss.where((label >= 0) & (label < total), torch.nan)
        if problem.ignore_index is not None:
            loss = loss.where(label != problem.ignore_index, 0)
        return loss

    def counts(self, dtype: torch.dtype) -> Tensor:
        """Return what this process's rows count in a mean."""
        mine, problem = self.step.mine, self.problem
        label = self.step.label[mine]
        weights = torch.ones_like(label) if self.label_weight is None else self.label_weight[mine]
        if problem.ignore_index is not None:
            weights = weights.where(label != problem.ignore_index, 0)
        return weights.to(dtype)

    def stats(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return the fields of MarginSoftmaxStats for this process's rows."""
        problem, mine = self.problem, self.step.mine
        label = self.step.label[mine]
        known = (label >= 0) & (label < problem.classes.total)
        if problem.ignore_index is not None:
            known &= label != problem.ignore_index
        target = self.sums["target"][mine].where(known, torch.nan)
        log_probability = (target - self.lse[mine]).to(dtype)
        if not problem.want_stats:
            none = torch.full_like(label, -1)
            return log_probability, none, none.clone(), torch.full_like(log_probability, torch.nan)
        cosine = self.sums["cosine"][mine].where(known, torch.nan).to(dtype)
        plain = self.sums["plain"][mine].where(known, torch.nan)
        predicted = self._predicted(target), self._predicted(plain)
        return log_probability, *predicted, cosine

    def _predicted(self, label_logit: Tensor) -> Tensor:
        mine = self.step.mine
        label, other, other_class = (
            values[mine] for values in (self.step.label, self._other, self._other_class)
        )
        is_label = (label_logit > other) | ((label_logit == other) & (label < other_class))
        return label.where(is_label, other_class)

    def _counted_over_all(self, classes: Tensor) -> Tensor:
        sampled = self.step.sampled
        if sampled is None:
            return classes
        return sampled[classes.clamp(0, len(sampled) - 1)] + self.problem.classes.first
