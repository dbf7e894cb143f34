"""The losses of a run: the last few, which are shown smoothed, and those nobody looked at yet.

Source: Solver::UpdateSmoothedLoss. A loss stays on its device until somebody wants the number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.solver.passes import Pass

__all__ = ["Losses"]


class Losses:
    """Keeps losses as tensors.

    Parameters
    ----------
    average : int
        The solver's ``average_loss``.

    Attributes
    ----------
    last : deque of Tensor
        Of the last `average` iterations.
    unseen : int
        How many `take` would return.
    """

    def __init__(self, average: int) -> None:
        self.last: deque[Tensor] = deque(maxlen=average)
        self._unseen: list[tuple[int, Tensor, int]] = []

    def add(self, iteration: int, passes: Sequence[Pass], samples: int) -> None:
        """Add an iteration's loss, the mean over its passes."""
        losses = [each.loss for each in passes]
        self.last.append(losses[0] if len(losses) == 1 else torch.stack(losses).mean())
        self._unseen.append((iteration, self.last[-1], samples))

    @property
    def unseen(self) -> int:
        """Number of losses that nobody looked at."""
        return len(self._unseen)

    def take(self) -> list[tuple[int, float, int]]:
        """Return iteration, loss and samples of what nobody looked at; a GPU is waited for once."""
        unseen, self._unseen = self._unseen, []
        values = torch.stack([loss for _, loss, _ in unseen]).tolist() if unseen else []
        return [(iteration, value, samples)
                for (iteration, _, samples), value in zip(unseen, values, strict=True)]  # fmt: skip

    def forget(self) -> tuple[()]:
        """Drop what nobody looked at, and wants to; return nothing of it."""
        self._unseen.clear()
        return ()

    def smoothed(self, extra: Tensor) -> float:
        """Return the mean of the last ones and one more."""
        self.last.append(extra)
        return float(torch.stack(tuple(self.last)).mean())
