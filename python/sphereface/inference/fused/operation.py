"""What a folded net consists of: products with what follows them, channelwise steps, layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer
from sphereface.caffe.layers.convolution import Convolution
from sphereface.inference.fused.affine import Affine

__all__ = ["Operation", "is_hooked"]


def is_hooked(layer: Layer) -> bool:
    """Tell whether more happens at a layer than its forward."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


@dataclass(eq=False)
class Operation:
    """One step of a folded net.

    Attributes
    ----------
    layer : Layer or None
        The Convolution or InnerProduct of a product, or a layer that runs as it is; None of a
        channelwise step.
    product : bool
        Whether `layer` is a product with folded weights.
    bottoms, tops : tuple of int
        Slots; a residual is the last bottom.
    names : list of str
        Layers that it stands for.
    before : Affine or None
        Folded into a product's weight from before it.
    after : Affine or None
        Folded into it from behind; what a channelwise step does.
    slopes : Tensor of shape (C,) or None
        Factors of negative values, zeros of a ReLU; float64.
    residual : bool
        The last bottom is added, before the rectifier if `residual_first`.
    parts : tuple of Operation
        Of a joined operation: those that it stands for, in an order that can be run.
    """

    layer: Layer | None
    product: bool
    bottoms: tuple[int, ...]
    tops: tuple[int, ...]
    names: list[str] = field(default_factory=list)
    before: Affine | None = None
    after: Affine | None = None
    slopes: Tensor | None = None
    residual: bool = False
    residual_first: bool = False
    parts: tuple[Operation, ...] = ()

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer as it is."""
        return self.layer is not None and not self.product

    @property
    def is_open(self) -> bool:
        """Whether an affine step may still be folded into it from behind."""
        return not self.is_layer and self.slopes is None and not self.residual

    @property
    def is_flattening(self) -> bool:
        """Whether it is an inner product."""
        return self.product and not isinstance(self.layer, Convolution)

    @property
    def is_relu(self) -> bool:
        """Whether it ends in a plain ReLU."""
        return self.slopes is not None and not self.slopes.any()

    def follow(self, affine: Affine) -> None:
        """Do `affine` after what is done."""
        self.after = affine if self.after is None else self.after.then(affine)

    def weight(self) -> Tensor:
        """Return a product's weight with all folded, (O, C / group, kernel...) or (O, K).

        Without anything to fold it is the layer's own tensor.
        """
        assert self.layer is not None
        weight = self.layer.weight.detach()
        if getattr(self.layer, "transpose", False):
            weight = weight.t()
        if self.before is None and self.after is None:
            return weight
        folded = weight.to(torch.float64, copy=True)
        if self.before is not None:
            self._by_input(folded).mul_(self._inputs(self.before.scale))
        if self.after is not None:
            scale = self.after.scale.to(folded.device)
            folded.mul_(scale.view(-1, *[1] * (folded.dim() - 1)))
        return folded.to(weight.dtype)

    def bias(self) -> Tensor | None:
        """Return a product's bias with everything folded, or None."""
        assert self.layer is not None
        bias = self.layer.bias
        if self.before is None and self.after is None:
            return None if bias is None else bias.detach()
        weight = self.layer.weight.detach()
        if getattr(self.layer, "transpose", False):
            weight = weight.t()
        total = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
        if bias is not None:
            total += bias.detach()
        if self.before is not None:
            shifts = self._inputs(self.before.shift)
            total += (self._by_input(weight.double()) * shifts).flatten(1).sum(1)
        if self.after is not None:
            total = total * self.after.scale.to(total) + self.after.shift.to(total)
        return total.to(weight.dtype)

    def _by_input(self, weight: Tensor) -> Tensor:
        """Return a view (O, C / group, values a channel)."""
        channels = self.before.scale.numel()  # type: ignore[union-attr] # asked for with it only
        if isinstance(self.layer, Convolution):
            return weight.view(len(weight), channels // self.layer.group, -1)
        return weight.view(len(weight), channels, -1)

    def _inputs(self, channels: Tensor) -> Tensor:
        """Return numbers of input channels so that they multiply `_by_input`."""
        channels = channels.to(self.layer.weight.device)  # type: ignore[union-attr]
        if isinstance(self.layer, Convolution) and self.layer.group > 1:
            group = self.layer.group
            each = channels.view(group, 1, -1).expand(-1, self.layer.num_output // group, -1)
            return each.reshape(self.layer.num_output, -1, 1)
        return channels.view(1, -1, 1)
