"""GradientScaler: the gradient reversed, more and more.

Source: gradient_scaler_layer.cpp of the Caffe fork of Ganin and Lempitsky (ICML 2015, section 4).
What differs: the iteration is the number of forward passes in TRAIN, where the fork asks its
solver; with iter_size above 1 it runs ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["GradientScaler", "gradient_scaler"]


def gradient_scaler(x: Tensor) -> Tensor:
    """Return x."""
    return x * 1


@register_layer("GradientScaler", param="gradient_scaler_param")
class GradientScaler(Layer):
    """y = x, with the gradient ``-c dy``.

    c goes from ``lower_bound`` to ``upper_bound``: ``2 h / (1 + exp(-alpha p)) - h + lower_bound``,
    where h is their difference and p the share of ``max_iter`` that has passed, at most 1.
    """

    function = staticmethod(gradient_scaler)
    iteration: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the schedule."""
        options = self.options
        self.bounds = (options.lower_bound, options.upper_bound)
        self.alpha, self.max_iter = options.alpha, options.max_iter
        if self.bounds[0] > self.bounds[1] or self.alpha < 0 or self.max_iter < 1:
            raise self.error(
                f"lower_bound {self.bounds[0]}, upper_bound {self.bounds[1]}, alpha {self.alpha},"
                f" max_iter {self.max_iter}",
                expected="rising bounds, alpha of at least 0 and max_iter of at least 1",
            )
        start = torch.zeros((), dtype=torch.int64)
        self.register_buffer("iteration", start, persistent=self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, whose gradient is that of the top times -c in TRAIN."""
        y: Tensor = self.compute(x)
        if not self.training:
            return y
        progress = (self.iteration.to(x.dtype) / self.max_iter).clamp(max=1)
        height = self.bounds[1] - self.bounds[0]
        c = 2 * height / (1 + (-self.alpha * progress).exp()) - height + self.bounds[0]
        with torch.no_grad():
            self.iteration.add_(1)
        reversed_y = y * -c
        return y.detach() + (reversed_y - reversed_y.detach())

    def count_from_start(self, forwards: int) -> None:
        """Set the count to that after `forwards` in TRAIN."""
        self.iteration.fill_(forwards)
