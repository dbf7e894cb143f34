"""Insanity: a leaky rectifier whose slopes are drawn anew for every value in TRAIN.

Source: insanity_layer.cpp of NormFace's Caffe fork (RReLU; Xu et al., 2015). What differs: the
random stream is torch's; the gradient in TEST is that of the slope that TEST computes with, where
the original has the slopes of the last training pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Insanity", "insanity"]


def insanity(x: Tensor, *, lower: float, upper: float, divisor: float, training: bool) -> Tensor:
    """Return x where positive; elsewhere x by random numbers (in training), or by `divisor`."""
    if not training:
        return torch.where(x > 0, x, x / divisor)
    return torch.where(x > 0, x, x / torch.empty_like(x).uniform_(lower, upper))


@register_layer("Insanity", param="insanity_param")
class Insanity(Layer):
    """max(x, 0) + min(x, 0) / a; a is uniform between ``lb`` and ``ub`` in TRAIN.

    In TEST a is (ub - lb) / (log |ub| - log |lb|), by which x / a is the mean of TRAIN.
    """

    function = staticmethod(insanity)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the bounds."""
        self.lower, self.upper = lower, upper = self.options.lb, self.options.ub
        if not upper > lower or lower * upper == 0 or lower == -upper:
            raise self.error(
                f"lb {lower:g}, ub {upper:g}", expected="lb less than ub, neither of them 0"
            )
        self.divisor = (upper - lower) / (math.log(abs(upper)) - math.log(abs(lower)))
