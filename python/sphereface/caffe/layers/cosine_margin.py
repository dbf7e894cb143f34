"""CosinAddm, CombinedMargin and AdaCosAddmScale: margins on ready cosines.

Source: cosin_add_m_layer.cpp, combined_margin_layer.cpp and adacos_add_m_scale_layer.cpp of
ArcFace-caffe. The formulas are those of ArcFace (Deng et al., CVPR 2019), its combined margin, and
AdaCos (Zhang et al., CVPR 2019). As there, the layers change the label's cosine in both phases, and
labels below 0 leave a row as it is. What differs: the gradient is the derivative throughout (the
CPU backward of CombinedMargin is not); cosines are limited to -1 ... 1 before an angle is taken;
AdaCos moves its scale in TRAIN only and saves it in the state_dict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.pending_logits import PendingProduct
from sphereface.caffe.registry import register_layer

__all__ = [
    "AdaCosAddmScale",
    "CombinedMargin",
    "CosinAddm",
    "ada_cos_scale",
    "combined_margin",
    "cosin_addm",
    "sine",
]


def sine(cosine: Tensor) -> Tensor:
    """Return the sine of the angle; where that is 0, its gradient is 0 and not infinite."""
    square = 1 - cosine.square()
    flat = square <= 0
    return torch.where(flat, 1, square).sqrt().where(~flat, 0)


def cosin_addm(x: Tensor, label: Tensor, *, m: float) -> Tensor:
    """Return the cosines, the label's as cos(theta + m).

    Beyond pi - m, where that would rise again, it is cos theta - m sin m; at theta = 0 the gradient
    is 1.
    """
    scores, column = x.flatten(1), label.long()[:, None]
    raw = scores.gather(1, column.clamp(min=0))
    cosine = raw.clamp(max=1)
    moved = cosine * math.cos(m) - sine(cosine) * math.sin(m)
    # A cosine of 1 or more has the value cos m and the gradient 1.
    moved = torch.where(raw >= 1, math.cos(m) + raw - raw.detach(), moved)
    moved = torch.where(raw <= -math.cos(m), raw - m * math.sin(m), moved)
    moved = torch.where(column < 0, raw, moved)
    return scores.scatter(1, column.clamp(min=0), moved).reshape(x.shape)


def combined_margin(x: Tensor, label: Tensor, *, m1: float, m2: float, m3: float) -> Tensor:
    """Return the cosines, the label's as cos(m1 theta + m2) - m3."""
    scores, column = x.flatten(1), label.long()[:, None]
    raw = scores.gather(1, column.clamp(min=0))
    inside = raw.abs() < 1
    # The angle's derivative has no bound at -1 and 1; it is left out there.
    angle = torch.where(
        inside, torch.where(inside, raw, 0).acos(), raw.detach().clamp(-1, 1).acos()
    )
    moved = torch.where(column < 0, raw, (m1 * angle + m2).cos() - m3)
    return scores.scatter(1, column.clamp(min=0), moved).reshape(x.shape)


def ada_cos_scale(x: Tensor, label: Tensor, *, scale: Tensor) -> Tensor:
    """Return the scale that follows `scale`: log B / cos(min(pi / 4, mean theta)).

    B is the mean over rows of the sum of exp(scale x) over the classes, the label's x being 0.
    """
    scores, column = x.detach().flatten(1).to(scale.dtype), label.long()[:, None]
    others = torch.where(column < 0, scores, scores.scatter(1, column.clamp(min=0), 0))
    total = (scale * others).exp().sum() / len(scores)
    return total.log() / scores.clamp(-1, 1).acos().mean().clamp(max=math.pi / 4).cos()


class _CosineMargin(Layer):
    """Bottoms: cosines (M, classes...); labels, one a row, below 0 for rows without."""

    bottoms = exactly(2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels and return the cosines' shape."""
        shape, label_shape = bottom_shapes
        if not shape or prod(label_shape) != shape[0]:
            raise self.error(
                f"{prod(label_shape)} labels for cosines of shape {shape}", expected="one a row"
            )
        return [shape]

    def labels(self, label: Tensor, classes: int) -> Tensor:
        """Return the labels as integers, those that are not below 0 checked."""
        label = label.reshape(-1)
        checked = class_labels(self, label.clamp(min=0), classes)
        return torch.where(label < 0, -1, checked)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the cosines, with the label's changed."""
        return self.compute(x, self.labels(label, prod(x.shape[1:])))


class _FixedMargin(_CosineMargin):
    """A margin that can be left to the loss (`sphereface.caffe.fused_loss`)."""

    takes_pending = True

    @property
    def pending_margin(self) -> dict[str, Any]:
        """The margin as `sphereface.margin_policy.CosineMargin` has it."""
        raise NotImplementedError

    def of_pending(self, logits: PendingProduct, label: Tensor) -> PendingProduct:
        """Return logits whose layer left them to their loss."""
        self.labels(label, logits.classes)
        return logits._replace(margin=self.pending_margin)


@register_layer("CosinAddm", param="cosin_add_m_param")
class CosinAddm(_FixedMargin):
    """ArcFace: the label's cosine becomes cos(theta + ``m``), beyond pi - m cos theta - m sin m."""

    function = staticmethod(cosin_addm)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margin."""
        self.m = _margin(self)

    @property
    def pending_margin(self) -> dict[str, Any]:
        """The margin as `sphereface.margin_policy.CosineMargin` has it."""
        return {"form": "angle", "m2": self.m}


@register_layer("CombinedMargin", param="combined_margin_param")
class CombinedMargin(_FixedMargin):
    """The label's cosine becomes cos(``m1`` theta + ``m2``) - ``m3``."""

    function = staticmethod(combined_margin)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margins."""
        options = self.options
        self.m1, self.m2, self.m3 = options.m1, options.m2, options.m3

    @property
    def pending_margin(self) -> dict[str, Any]:
        """The margin as `sphereface.margin_policy.CosineMargin` has it."""
        return {"form": "combined", "m1": self.m1, "m2": self.m2, "m3": self.m3}


@register_layer("AdaCosAddmScale", param="adacos_add_m_scale_param")
class AdaCosAddmScale(_CosineMargin):
    """`CosinAddm` times a scale that follows the data, a constant for the gradient.

    It starts at sqrt(2) log(``num_classes`` - 1), and each forward makes it
    ``log B / cos(min(pi / 4, mean theta))``, B being the mean over rows of the sum of
    exp(scale cos theta) over the classes, 1 for the label's. Buffer: ``scale``.
    """

    scale: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margin and start the scale."""
        self.m = _margin(self)
        classes = self.options.num_classes
        if classes <= 2:
            raise self.error(f"num_classes {classes:g}", expected="more than 2")
        self.register_buffer("scale", torch.tensor(math.sqrt(2) * math.log(classes - 1)))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the scaled cosines; in TRAIN, keep the scale."""
        label = self.labels(label, prod(x.shape[1:]))
        with torch.no_grad():
            scale = ada_cos_scale(x, label, scale=self.scale)
            if self.training:
                self.scale.copy_(scale)
        return cosin_addm(x, label, m=self.m) * scale.to(x.dtype)


def _margin(layer: _CosineMargin) -> float:
    m: float = layer.options.m
    if not 0 <= m < math.pi:
        raise layer.error(f"m {m:g}", expected="at least 0 and less than pi")
    return m
