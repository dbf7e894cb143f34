"""An optimiser whose state of a sharded weight follows the sampled rows and the checkpoints.

With sampling, a step touches the weight and the state of the rows that were drawn, and no others:
momentum and weight decay do not move a class that took no part. In ``optimizer.state_dict()`` the
state is the sharded tensor that it is a part of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OptimizerRows"]


class OptimizerRows:
    """Hooks of one optimiser for one weight.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        With elementwise updates, as all of torch.optim but LBFGS, Adafactor and Muon.
    weight : Parameter of shape (N, K)
        One of its parameters; a sparse gradient tells the rows.
    to_sharded : callable
        From a tensor of the weight's shape to the sharded tensor.
    to_local : callable
        Back.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        weight: nn.Parameter,
        to_sharded: Callable[[Tensor], Tensor],
        to_local: Callable[[Tensor], Tensor],
    ) -> None:
        self._weight, self._to_sharded, self._to_local = weight, to_sharded, to_local
        self._rows: tuple[nn.Parameter, Tensor] | None = None
        optimizer.register_step_pre_hook(self._take_rows)
        optimizer.register_step_post_hook(self._put_rows)
        optimizer.register_state_dict_post_hook(self._shard_state)
        optimizer.register_load_state_dict_pre_hook(self._localise_state)

    # ---- a step on some rows

    @torch.no_grad()
    def _take_rows(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        grad = self._weight.grad
        if grad is None or not grad.is_sparse:
            return
        grad = grad.coalesce()
        index = grad.indices()[0]
        rows = nn.Parameter(self._weight[index])
        rows.grad = grad.values()
        self._rows = rows, index
        state = optimizer.state.pop(self._weight, {})
        self._state = state
        if state:
            optimizer.state[rows] = {
                name: value[index] if self._is_rows(value) else value
                for name, value in state.items()
            }
        self._replace(optimizer, self._weight, rows)

    @torch.no_grad()
    def _put_rows(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._rows is None:
            return
        (rows, index), self._rows = self._rows, None
        self._replace(optimizer, rows, self._weight)
        self._weight.index_copy_(0, index, rows)
        state, self._state = self._state, {}
        for name, value in optimizer.state.pop(rows, {}).items():
            if isinstance(value, Tensor) and value.shape == rows.shape:
                if not self._is_rows(state.get(name)):
                    state[name] = torch.zeros_like(self._weight, dtype=value.dtype)
                state[name].index_copy_(0, index, value)
            else:
                state[name] = value
        if state:
            optimizer.state[self._weight] = state

    def _replace(self, optimizer: torch.optim.Optimizer, old: Tensor, new: Tensor) -> None:
        for group in optimizer.param_groups:
            group["params"] = [new if p is old else p for p in group["params"]]

    def _is_rows(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.shape == self._weight.shape

    # ---- checkpoints

    def _shard_state(
        self, optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        return self._changed(optimizer, state_dict, self._to_sharded)

    def _localise_state(
        self, optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        return self._changed(optimizer, state_dict, self._to_local)

    def _changed(
        self,
        optimizer: torch.optim.Optimizer,
        state_dict: dict[str, Any],
        change: Callable[[Tensor], Tensor],
    ) -> dict[str, Any]:
        order = [p for group in optimizer.param_groups for p in group["params"]]
        number = next(i for i, p in enumerate(order) if p is self._weight)
        names = [name for group in state_dict["param_groups"] for name in group["params"]]
        key = names[number]
        state = dict(state_dict["state"])
        if key in state:
            state[key] = {
                name: change(value) if isinstance(value, Tensor) and value.dim() == 2 else value
                for name, value in state[key].items()
            }
        return {**state_dict, "state": state}
