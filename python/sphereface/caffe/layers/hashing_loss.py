"""HashingLoss: codes of one class near one another, those of others apart, and all near -1 and 1.

Source: hashing_loss_layer.cpp of DSH's Caffe fork (Liu et al., CVPR 2016, equation 4). As there
pairs have half the gradient of their squared distance. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["HashingLoss"]


@register_layer("HashingLoss", param="hashing_loss_param")
class HashingLoss(LossLayer):
    """A loss of the pairs of a batch of codes (N, C), and of each code.

    ``sum_(i<j) l / (N (N - 1)) + tradeoff sum ||x| - 1| / N``, where l of a pair is the squared
    distance d of its codes, or max(``bi_margin`` - d, 0) if the two are not similar. Second bottom:
    labels (N,), of which similar ones are equal, or (N, L), of which similar ones have a product
    above 0.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margin and the weight of the regulariser."""
        super().setup(bottom_shapes)
        options = self.options
        if not (options.HasField("bi_margin") and options.HasField("tradeoff")):
            raise self.error("bi_margin or tradeoff missing", expected="both")
        self.margin, self.tradeoff = options.bi_margin, options.tradeoff

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there are pairs."""
        if bottom_shapes[0][:1] == (1,):
            raise self.error("a batch of 1", expected="at least 2, for there are pairs")
        return super().reshape(bottom_shapes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        count = x.shape[0]
        codes = x.reshape(count, prod(x.shape[1:]))
        given = label.detach().reshape(count, -1)
        several = given.shape[1] > 1
        similar = given @ given.t() > 0 if several else given.long() == given.long().t()
        distance = (codes[:, None] - codes).square().sum(2)
        losses = torch.where(similar, distance, (self.margin - distance).relu())
        pairs = losses.triu(1).sum() / (count * (count - 1))
        pairs = (pairs + pairs.detach()) / 2
        # The derivative of ||x| - 1|, at -1, 0 and 1 as in the fork.
        rising = (codes >= 1) | ((codes <= 0) & (codes >= -1))
        slope = torch.where(rising, codes, -codes)
        off = (codes.detach().abs() - 1).abs() + (slope - slope.detach())
        return pairs + self.tradeoff * off.sum() / count
