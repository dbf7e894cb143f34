"""The demo's network under a loss of `sphereface.nn`, trained in PyTorch as the solver does it.

What differs from `sphereface.demo.digits_training`: the head. Weights, batches, rates and decay are
equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sphereface.caffe import Net
from sphereface.demo.digits_training import DigitsRun
from sphereface.progress import Progress

__all__ = ["TorchRun"]


@dataclass(frozen=True)
class TorchRun:
    """One training.

    Attributes
    ----------
    start : DigitsRun
        Whose network and batches these are; its head's first weights are the loss's.
    loss : callable
        ``loss(features, classes)`` makes the module, which has a `weight`.
    """

    start: DigitsRun
    loss: Callable[[int, int], nn.Module]

    def train(self, progress: Progress | None = None) -> tuple[Net, nn.Module]:
        """Train; return the net without its head, and the loss."""
        solver = self.start.solver()
        first = solver.net.layer("fc6").weight.detach()
        net = self.start.deployed(solver.net).train()
        loss = self.loss(first.shape[1], first.shape[0])
        with torch.no_grad():
            loss.get_parameter("weight").copy_(first)
        optimizer = torch.optim.SGD(self._groups(net, loss, solver.param), momentum=0.9)
        for iteration in range(self.start.iterations):
            if iteration in solver.param.stepvalue:
                _lower_rate(optimizer, solver.param.gamma)
            images, label = self.start.batch(iteration)
            value = loss(net(images)["fc5"], label)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if progress and (iteration + 1) % self.start.per_epoch == 0:
                progress.update(note=f"{type(loss).__name__} {value.item():.3f}")
        return net.eval(), loss

    def _groups(self, net: Net, loss: nn.Module, solver: Any) -> list[dict[str, Any]]:
        def group(tensor: Tensor, lr_mult: float, decay_mult: float) -> dict[str, Any]:
            decay = decay_mult * solver.weight_decay
            return {"params": [tensor], "lr": lr_mult * solver.base_lr, "weight_decay": decay}

        blobs = [group(b.tensor, b.lr_mult, b.decay_mult) for b in net.learnable_blobs()]
        return [*blobs, group(loss.get_parameter("weight"), 1, 1)]


def _lower_rate(optimizer: torch.optim.SGD, factor: float) -> None:
    """Multiply the rate as Caffe does, whose momentum holds it and goes on as it was gathered."""
    for group in optimizer.param_groups:
        group["lr"] *= factor
    for state in optimizer.state.values():
        state["momentum_buffer"] /= factor
