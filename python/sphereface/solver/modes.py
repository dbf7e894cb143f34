"""Ways to compute that change speed and not the meaning: half precision, channels-last, compiled.

Half precision is torch's autocast: weights, histories and the margin stay float32. fp16 has too few
exponents for small gradients, so its loss is scaled, as torch's GradScaler does it; an iteration
whose gradients overflow counts as one with gradients of zero.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.solver.config import NetSource
from sphereface.solver.distributed import RankGroup
from sphereface.solver.nets import NetBuilder
from sphereface.solver.passes import Pass, Passes
from sphereface.solver.source import BatchSource

__all__ = ["AMP_TYPES", "Builder", "Mode", "ModePasses"]

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_FIRST_SCALE, _GROWTH, _BACKOFF, _GROWTH_INTERVAL = 65536.0, 2.0, 0.5, 2000  # GradScaler's


@dataclass(frozen=True)
class Mode:
    """How to compute.

    Attributes
    ----------
    amp : {"", "bf16", "fp16"}
        Half precision.
    channels_last : bool
        Images and kernels in NHWC order in memory.
    compile : bool
        Use torch.compile; a minute at the first iteration.
    """

    amp: str = ""
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.amp and self.amp not in AMP_TYPES:
            raise SphereFaceError(f'"{self.amp}"', where="--amp", expected=" or ".join(AMP_TYPES))


@dataclass(frozen=True)
class Builder(NetBuilder):
    """Builds nets whose kernels lie in a mode's order in memory, before histories are made."""

    channels_last: bool = False

    def train_net(self, source: NetSource) -> tuple[Net, BatchSource | None]:
        """Return the net and the source of its data."""
        net, data = super().train_net(source)
        if self.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net, data


class ModePasses(Passes):
    """Runs a net in a mode, together with other ranks."""

    def __init__(self, net: Net, mode: Mode, device: torch.device, group: RankGroup) -> None:
        super().__init__(net)
        self._group = group
        if mode.compile:
            self.model = torch.compile(net)
        if mode.amp:
            self.context = functools.partial(torch.autocast, device.type, dtype=AMP_TYPES[mode.amp])
        self._scale: Tensor | None = None
        if mode.amp == "fp16":
            self._scale = torch.tensor(_FIRST_SCALE, device=device)
            self._steady = torch.zeros((), dtype=torch.int32, device=device)

    def forward(self, batch: Mapping[str, Tensor]) -> Pass:
        """Run a forward without gradients; the losses told are means over the ranks."""
        return self._averaged(super().forward(batch))

    def forward_backward(self, batch: Mapping[str, Tensor]) -> Pass:
        """Run a forward and a backward; the losses told are means over the ranks."""
        result, loss = self._forward(batch)
        if loss.requires_grad:
            (loss if self._scale is None else loss * self._scale).backward()
        return self._averaged(result)

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients' means over the ranks, without the scale of half precision."""
        grads = super().gradients(parameters)
        self._group.average(grads)
        if self._scale is not None and grads:
            overflow = torch.zeros((), device=self._scale.device)
            torch._amp_foreach_non_finite_check_and_unscale_(
                grads, overflow, self._scale.reciprocal()
            )
            for grad in grads:
                grad.masked_fill_(overflow.bool(), 0)
            torch._amp_update_scale_(
                self._scale, self._steady, overflow, _GROWTH, _BACKOFF, _GROWTH_INTERVAL
            )
        return grads

    def _averaged(self, result: Pass) -> Pass:
        losses = [result.outputs[n] for n in self.net.outputs if n in self.net.loss_weights]
        self._group.average([result.loss, *losses])
        return result
