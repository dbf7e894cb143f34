"""SmoothL1Loss: squares near zero, absolute values beyond.

Source: smooth_L1_loss_layer.cpp of Fast R-CNN's Caffe fork (Girshick, ICCV 2015, equation 3) and of
SSD's. What differs: with the three bottoms that SSD's layer allows, the gradient has the weights
too; the original's, which no net of SSD uses, forgets them. SmoothL1LossOHEM is R-FCN's
(Dai et al., NIPS 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["SmoothL1Loss", "SmoothL1LossOHEM"]


@register_layer("SmoothL1Loss", param="smooth_l1_loss_param")
class SmoothL1Loss(LossLayer):
    """``sum outside * f(inside * (x - target)) / N``.

    ``f(d) = sigma^2 d^2 / 2`` for ``|d| < 1 / sigma^2``, else ``|d| - 1 / (2 sigma^2)``. Bottoms:
    x, the target, and weights of the same shape, inside and outside, but for axes of size 1 at the
    end, which R-FCN's boxes have and targets of Faster R-CNN's Python layers have not; both
    gradients flow to the first two.
    """

    bottoms = Arity(2, 4)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read sigma."""
        super().setup(bottom_shapes)
        self.sigma = self.options.sigma
        if self.sigma <= 0:
            raise self.error(f"sigma {self.sigma:g}", expected="a positive number")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that all bottoms have one shape."""
        axes = max(map(len, bottom_shapes))
        full = {(*shape, *[1] * (axes - len(shape))) for shape in bottom_shapes}
        if len(full) > 1:
            raise self.error(f"bottoms of shapes {list(bottom_shapes)}", expected="equal shapes")
        return super().reshape(bottom_shapes)

    def forward(
        self, x: Tensor, target: Tensor, inside: Tensor | None = None, outside: Tensor | None = None
    ) -> Tensor:
        """Return the loss."""
        target = target.reshape(x.shape)
        if inside is not None:
            factor = inside.detach().reshape(x.shape)
            x, target = x * factor, target * factor
        loss = F.smooth_l1_loss(x, target, reduction="none", beta=self.sigma**-2)
        if outside is not None:
            loss = loss * outside.detach().reshape(x.shape)
        return loss.sum() / len(x)


@register_layer("SmoothL1LossOHEM")
class SmoothL1LossOHEM(LossLayer):
    """``sum f(weights * (x - target)) / normaliser``, f as above with sigma 1.

    Bottoms (N, C, H, W), axes of size 1 at the end may be missing: x, the target and, optionally,
    weights; both gradients flow to the first two. The normaliser is N for BATCH_SIZE, 1 for NONE,
    ``pre_fixed_normalizer`` for PRE_FIXED, else N H W. Second top: the loss of each instance,
    (N, 1, H, W), without a gradient.
    """

    bottoms = Arity(2, 3)
    tops = Arity(1, 2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that all bottoms have one shape."""
        full = [(*shape, *[1] * (4 - len(shape))) for shape in bottom_shapes]
        if any(shape != full[0] or len(shape) != 4 for shape in full):
            raise self.error(
                f"bottoms of shapes {list(bottom_shapes)}", expected="equal shapes of up to 4 axes"
            )
        batch, _, *image = full[0]
        return [*super().reshape(bottom_shapes), (batch, 1, *image)][: self.top_count]

    def forward(
        self, x: Tensor, target: Tensor, weights: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and that of each instance where the file asks for it."""
        image = (*x.shape[2:], 1, 1)[:2]
        rows = x.reshape(*x.shape[:2], *image)
        target = target.reshape(rows.shape)
        if weights is not None:
            factor = weights.detach().reshape(rows.shape)
            rows, target = rows * factor, target * factor
        each = F.smooth_l1_loss(rows, target, reduction="none").sum(1, keepdim=True)
        loss = each.sum() / self.normalizer(len(x), len(x) * prod(image), None)
        return loss if self.top_count == 1 else (loss, each.detach())
