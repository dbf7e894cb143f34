"""Ways to compute that change speed and not the meaning: half precision, channels-last, compiled.

Half precision is torch's autocast: weights, histories and the margin stay float32. fp16 has too few
exponents for small gradients, so its loss is scaled, as torch's GradScaler does it; an iteration
whose gradients overflow counts as one with gradients of zero.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe import Net
from sphereface.caffe.batch_source import OpenSource
from sphereface.caffe.memory_format import arrange_kernels
from sphereface.caffe.open_net import OpenNet
from sphereface.distributed.sampling import ClassSampler
from sphereface.errors import SphereFaceError
from sphereface.solver.cpu_form import to_cpu_form
from sphereface.solver.distributed import RankGroup
from sphereface.solver.nets import SolverNets
from sphereface.solver.passes import Pass, Passes
from sphereface.solver.sharded_classes import SplitProduct

__all__ = ["AMP_TYPES", "Mode", "ModeNets", "ModePasses"]

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_FIRST_SCALE, _GROWTH, _BACKOFF, _GROWTH_INTERVAL = 65536.0, 2.0, 0.5, 2000  # GradScaler's

_SCALE, _STEADY = "loss scale of fp16", "iterations at that scale"
_DRAWS, _SEED = "draws of classes for ", "seed of the draws for "


@dataclass(frozen=True)
class Mode:
    """How to compute.

    Attributes
    ----------
    amp : {"", "bf16", "fp16"}
        Half precision.
    channels_last : bool
        Images and kernels in NHWC order in memory. On a CPU they are so anyway, unless compiled.
    compile : bool
        Use torch.compile; a minute at the first iteration.
    shard_classes : bool
        Split the weights of the classes over the processes.
    sample_classes : float
        With split classes, the part of them that takes part in an iteration.
    fuse_loss : bool
        Run a margin head together with its loss: see `sphereface.caffe.Net.fuse_losses`.
    """

    amp: str = ""
    channels_last: bool = False
    compile: bool = False
    shard_classes: bool = False
    fuse_loss: bool = True
    sample_classes: float = 1.0

    def __post_init__(self) -> None:
        if self.compile and self.shard_classes:
            raise SphereFaceError("--compile with --shard-classes", expected="one of them")
        if not 0 < self.sample_classes <= 1:
            raise SphereFaceError(
                f"{self.sample_classes:g}", where="--sample-classes", expected="above 0, at most 1"
            )
        if self.sample_classes < 1 and (not self.shard_classes or self.amp == "fp16"):
            raise SphereFaceError(
                "--sample-classes" + (" with --amp fp16" if self.shard_classes else ""),
                expected="with --shard-classes, in float32 or bf16",
            )
        if self.amp and self.amp not in AMP_TYPES:
            raise SphereFaceError(f'"{self.amp}"', where="--amp", expected=" or ".join(AMP_TYPES))


class ModeNets(SolverNets):
    """Opens the nets of a solver, and trains in a mode, together with other ranks."""

    def __init__(
        self,
        mode: Mode,
        group: RankGroup,
        data: OpenSource | None = None,
        allow_python: bool | Iterable[str] = (),
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(data, allow_python)
        self._mode, self._group = mode, group
        if mode.shard_classes:
            self.sharing = replace(group.sharing(), sample_rate=mode.sample_classes, seed=seed)

    def passes(self, opened: OpenNet, device: torch.device, *, trained: bool) -> Passes:
        """Return what runs a net: test nets run in float32, and whole in every rank."""
        if not trained:
            return super().passes(opened, device, trained=trained)
        return ModePasses(opened.net, self._mode, device, self._group)


class ModePasses(Passes):
    """Runs a net in a mode, together with other ranks."""

    def __init__(self, net: Net, mode: Mode, device: torch.device, group: RankGroup) -> None:
        super().__init__(net)
        if mode.amp == "fp16":
            _refuse_unscaled(net)
        self._group = group
        net.fuse_losses = mode.fuse_loss
        # Before histories are made, which follow the order in memory.
        if device.type == "cpu" and not mode.compile:
            to_cpu_form(net)
        elif mode.channels_last:
            arrange_kernels(net, torch.channels_last)
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
        # What a process has of a split weight is its own; the layer has scaled its gradient.
        own = {id(blob) for layer in self.net.layers if layer.part for blob in layer.blobs}
        pairs = zip(parameters, grads, strict=True)
        self._group.average([grad for parameter, grad in pairs if id(parameter) not in own])
        if self._scale is not None and grads:
            self._unscale(grads, self._scale)
        return grads

    def _unscale(self, grads: Sequence[Tensor], scale: Tensor) -> None:
        """Divide by the scale, or zero all that overflowed; then adapt the scale, on the device."""
        finite = torch.stack([grad.isfinite().all() for grad in grads]).all()
        overflow = (~finite).float()
        self._group.average([overflow])
        finite = overflow == 0
        for grad in grads:
            grad.div_(scale).masked_fill_(~finite, 0)
        self._steady.add_(1).mul_(finite)
        grows = self._steady == _GROWTH_INTERVAL
        self._steady.mul_(~grows)
        grown = torch.where(grows, scale * _GROWTH, scale)
        # The scale itself may not overflow.
        grown = torch.where(grown.isfinite(), grown, scale)
        scale.copy_(torch.where(finite, grown, scale * _BACKOFF))

    def state(self) -> dict[str, Any]:
        """Return seeds and counts of draws; fp16's loss scale, and since when it is the same."""
        samplers = self._samplers()
        draws = {_DRAWS + name: sampler.draws for name, sampler in samplers.items()}
        draws |= {_SEED + name: sampler.seed for name, sampler in samplers.items()}
        if self._scale is None:
            return draws
        return {**draws, _SCALE: float(self._scale), _STEADY: int(self._steady)}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Take over seeds, counts and the loss scale; another run may have no use for them."""
        left = dict(state)
        for name, sampler in self._samplers().items():
            sampler.draws = int(left.pop(_DRAWS + name, sampler.draws))
            sampler.seed = int(left.pop(_SEED + name, sampler.seed))
        state = left
        if self._scale is None or _SCALE not in state:
            return super().restore({name: state[name] for name in state if name != _STEADY})
        self._scale.fill_(float(state[_SCALE]))
        self._steady.fill_(int(state.get(_STEADY, 0)))
        return []

    def _samplers(self) -> dict[str, ClassSampler]:
        layers = (layer for layer in self.net.layers if isinstance(layer, SplitProduct))
        return {layer.name: layer.sampler for layer in layers if layer.sampler is not None}

    def _averaged(self, result: Pass) -> Pass:
        losses = [result.outputs[n] for n in self.net.outputs if n in self.net.loss_weights]
        self._group.average([result.loss, *losses])
        return result


def _refuse_unscaled(net: Net) -> None:
    """Raise if a layer's gradient would be divided by a scale that it was not multiplied by."""
    for layer in net.layers:
        if layer.unscaled_gradient and any(layer.lr_mult):
            raise layer.error(
                "--amp fp16 with a gradient that the loss's scale does not reach",
                expected="--amp bf16, or float32",
            )
