"""L1Loss: absolute differences, or lengths of differences, over the batch.

Source: l1loss_layer.cu of FlowNet's Caffe fork (Dosovitskiy et al., ICCV 2015), whose defaults are
l1_loss_layer.cpp of NVIDIA's (DetectNet). Differences that are not numbers count as none. What
differs: the gradient of a difference of 0 is 0, as in NVIDIA's; FlowNet's is -1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["L1Loss"]


@register_layer("L1Loss", param="l1_loss_param")
class L1Loss(LossLayer):
    """``sum |a - b| / N``; of one bottom ``sum |a| / N``.

    With ``l2_per_location`` the sum is that of ``sqrt(sum_c (a - b)^2 + epsilon)`` over all
    positions, ``l2_prescale_by_channels`` makes the inner sum a mean, ``normalize_by_num_entries``
    divides by the number of positions that are numbers, and lengths up to ``plateau`` are none.
    Both bottoms get a gradient.
    """

    bottoms = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        super().setup(bottom_shapes)
        options = self.options
        self.per_location, self.by_entries = (
            options.l2_per_location,
            options.normalize_by_num_entries,
        )
        self.prescale = options.l2_prescale_by_channels
        self.epsilon, self.plateau = options.epsilon, options.plateau

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the bottoms have one shape."""
        shape = bottom_shapes[0]
        if bottom_shapes[-1] != shape or not shape:
            raise self.error(f"bottoms of shapes {list(bottom_shapes)}", expected="equal shapes")
        if self.per_location and len(shape) != 4:
            raise self.error(f"l2_per_location of shape {shape}", expected="4 axes (N, C, H, W)")
        return [()]

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss."""
        difference = x if target is None else x - target
        valid = ~difference.isnan()
        difference = torch.where(valid, difference, 0)
        if self.per_location:
            square = difference.square()
            total = square.mean(1) if self.prescale else square.sum(1)
            length = (total + self.epsilon).sqrt()
            # What lies on the plateau is 0 under the root, and has no gradient.
            flat = total <= self.plateau**2 if self.plateau > 0 else torch.zeros_like(total) > 0
            loss = torch.where(flat, self.epsilon**0.5, length).sum()
        else:
            size = difference.abs()
            if self.plateau > 0:
                size = torch.where(size > self.plateau, size, 0)
            loss = size.sum()
        if not self.by_entries:
            return loss / len(x)
        return loss / (valid.sum() / x.shape[1]).clamp(min=1 / x.shape[1])
