"""From the gradients of all passes to the update: clip, normalise, regularise, apply.

Source: SGDSolver::ApplyUpdate and what it calls (sgd_solver.cpp). Clipping comes first and looks at
the sum over ``iter_size`` passes; weight decay is added after. What differs: blobs with the same
multipliers are updated together, and frozen ones (lr_mult 0) not at all; of a sparse gradient, that
of sampled classes, the rows that it has, with their histories, and no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.solver.update_rules import RULES, Tensors
from sphereface.weights import StreamedArray

if TYPE_CHECKING:
    from sphereface.solver.sharded_classes import Sharing

__all__ = ["Updater", "clip_gradients"]


def clip_gradients(
    grads: Tensors,
    limit: float,
    split: tuple[Sequence[bool], Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """Scale `grads` in place so that their common L2 norm is at most `limit`; return the norm.

    `split` tells which are this process's part of a gradient, and what sums over the processes.
    """
    norms = torch.stack(torch._foreach_norm(grads))
    if split is not None:
        own, total = split
        parts = torch.tensor(own, device=norms.device)
        norms = torch.stack(
            [norms.where(~parts, 0).norm(), total(norms.where(parts, 0).square().sum()).sqrt()]
        )
    norm = torch.linalg.vector_norm(norms)
    # A device's number: whether it is over the limit is not worth waiting for.
    torch._foreach_mul_(grads, torch.where(norm > limit, limit / norm, torch.ones_like(norm)))
    return norm


@dataclass
class _Group:
    """Blobs that have both multipliers in common."""

    lr_mult: float
    decay_mult: float
    indices: list[int]  # among the learnable blobs
    weights: list[Tensor]


class Updater:
    """The learnable blobs of a net, their histories and how they are updated.

    Parameters
    ----------
    net : Net
        On its device.
    param : SolverParameter
        Checked.
    sharing : Sharing, optional
        Who shares the classes, where they are split over processes.

    Attributes
    ----------
    sharing
        As given.
    parameters : list of Tensor
        The blobs that learn, whose gradients `apply` takes.
    history : list of Tensor
        As in a solver state: one for each learnable blob, frozen ones too; for AdaDelta and Adam
        then the second ones.
    parts : list of ClassRange or None
        Which rows of each learnable blob are here, where they are split over processes.
    split : list of Tensor
        Those blobs.
    keep_updates : bool
        Leave the updates in the gradients, as Caffe's diffs hold them; ``snapshot_diff`` asks so.
    """

    def __init__(self, net: Net, param: Any, sharing: Sharing | None = None) -> None:
        self.param, self.sharing = param, sharing
        self.keep_updates: bool = param.snapshot_diff
        self.rule = RULES[param.type].of(param)
        blobs = list(net.learnable_blobs())
        self.keys = [blob.key for blob in blobs]
        self.parts = [blob.layer.part for blob in blobs]
        self.split = [blob.tensor for blob in blobs if blob.layer.part is not None]
        self.parameters: list[Tensor] = []
        self._groups: list[_Group] = []
        groups: dict[tuple[float, float], _Group] = {}
        for index, blob in enumerate(blobs):
            if not (blob.lr_mult and blob.tensor.requires_grad):
                continue
            group = groups.setdefault(
                (blob.lr_mult, blob.decay_mult), _Group(blob.lr_mult, blob.decay_mult, [], [])
            )
            group.indices.append(index)
            group.weights.append(blob.tensor)
        for group in groups.values():
            self._groups.append(group)
            self.parameters += group.weights
        self.history = [
            torch.zeros_like(blob.tensor, requires_grad=False)
            for _ in range(self.rule.histories)
            for blob in blobs
        ]

    @torch.no_grad()
    def apply(
        self,
        grads: Tensors,
        rate: float,
        iteration: int,
        tell: Callable[[str, Tensor, Tensor], None] | None = None,
    ) -> Tensor | None:
        """Update the weights.

        Parameters
        ----------
        grads : list of Tensor
            One for each of `parameters`, summed over the passes; used as scratch. With
            `keep_updates` they hold the update afterwards. A sparse one tells the rows to update.
        rate : float
            The learning rate, to be multiplied by each blob's lr_mult.
        iteration : int
            Updates done before.
        tell : callable, optional
            Takes key, weight and update of each blob, before the update.

        Returns
        -------
        Tensor, optional
            The gradients' L2 norm before clipping, if ``clip_gradients`` is on.
        """
        param, norm = self.param, None
        if not grads:
            return None
        if self.history[0].device != grads[0].device:
            self.history = [tensor.to(grads[0].device) for tensor in self.history]
        # Of a sparse gradient the rows it has: what follows knows dense tensors only.
        sparse = [grad.coalesce() if grad.is_sparse else None for grad in grads]
        rows = [None if grad is None else grad.indices()[0] for grad in sparse]
        grads = [g if s is None else s.values() for g, s in zip(grads, sparse, strict=True)]
        if param.clip_gradients >= 0:
            own = [self.parts[index] is not None for g in self._groups for index in g.indices]
            split = (own, self.sharing.ranks.total) if self.sharing else None
            norm = clip_gradients(grads, param.clip_gradients, split)
        if param.iter_size > 1:
            torch._foreach_mul_(grads, 1 / param.iter_size)
        begin = 0
        for group in self._groups:
            here = slice(begin, begin + len(group.weights))
            diffs, begin = grads[here], here.stop
            # Weights with a version counter of their own: pycaffe keeps what a forward recorded.
            whole = [[weight.data for weight in group.weights], *self._histories(group)]
            weights, *histories = [_taken(tensors, rows[here]) for tensors in whole]
            self._regularise(group, weights, diffs)
            local_rate = rate * group.lr_mult
            updates = self.rule.updates(diffs, histories, local_rate, iteration)
            if tell is not None:
                for index, weight, update in zip(
                    group.indices, group.weights, updates, strict=True
                ):
                    tell(self.keys[index], weight, update)
            torch._foreach_sub_(weights, updates)
            for tensors, parts in zip(whole, [weights, *histories], strict=True):
                _put_back(tensors, parts, rows[here])
            if updates is not diffs and self.keep_updates:
                torch._foreach_copy_(diffs, updates)
        return norm

    def local_rates(self, rate: float) -> dict[str, tuple[float, float]]:
        """Return by key each learning blob's own learning rate and weight decay."""
        return {
            self.keys[index]: (rate * group.lr_mult, self.param.weight_decay * group.decay_mult)
            for group in self._groups
            for index in group.indices
        }

    def check_history(self, arrays: Sequence[np.ndarray], where: str) -> None:
        """Refuse the histories of a solver state if their number or a shape differs."""
        if len(arrays) != len(self.history):
            raise SphereFaceError(
                f"{len(arrays)} history blobs",
                where=where,
                expected=f"{len(self.history)}, of {len(self.keys)} learnable blobs with type "
                f"{self.param.type}",
                fix="resume with the net and the solver type that the state was saved with",
            )
        for index, (array, tensor) in enumerate(zip(arrays, self.history, strict=True)):
            part, shape = self.parts[index % len(self.keys)], tuple(tensor.shape)
            if part is not None:
                shape = (part.total, *shape[1:])
            if array.size != math.prod(shape):
                raise SphereFaceError(
                    f"history {index} ({self.keys[index % len(self.keys)]}) has shape "
                    f"{array.shape}",
                    where=where,
                    expected=f"{shape}",
                )

    def history_arrays(self, whole: Callable[[Tensor], StreamedArray] | None = None) -> list[Any]:
        """Return the histories for a solver state; `whole` is as in `Net.save`."""
        parts = self.parts * self.rule.histories
        return [
            tensor.detach().cpu().numpy() if part is None or whole is None else whole(tensor)
            for tensor, part in zip(self.history, parts, strict=True)
        ]

    def load_history(self, arrays: Sequence[np.ndarray]) -> None:
        """Take the histories of a solver state, which `check_history` has seen."""
        parts = self.parts * self.rule.histories
        for array, tensor, part in zip(arrays, self.history, parts, strict=True):
            if part is not None:
                array = array.reshape(part.total, *tensor.shape[1:])[part.rows]
            values = torch.from_numpy(np.array(array))  # a copy: files are mapped read-only
            tensor.copy_(values.reshape(tensor.shape))

    def _regularise(self, group: _Group, weights: Tensors, diffs: Tensors) -> None:
        decay = self.param.weight_decay * group.decay_mult
        if not decay:
            return
        l1 = self.param.regularization_type == "L1"
        towards = torch._foreach_sign(weights) if l1 else weights
        torch._foreach_add_(diffs, towards, alpha=decay)

    def _histories(self, group: _Group) -> list[list[Tensor]]:
        count = len(self.keys)
        return [
            [self.history[offset + index] for index in group.indices]
            for offset in range(0, self.rule.histories * count, count)
        ]


def _taken(tensors: Tensors, rows: Sequence[Tensor | None]) -> Tensors:
    """Return the tensors, or copies of the rows of them that take part."""
    pairs = zip(tensors, rows, strict=True)
    return [tensor if index is None else tensor[index] for tensor, index in pairs]


def _put_back(tensors: Tensors, parts: Tensors, rows: Sequence[Tensor | None]) -> None:
    for tensor, part, index in zip(tensors, parts, rows, strict=True):
        if index is not None:
            tensor.index_copy_(0, index, part)
