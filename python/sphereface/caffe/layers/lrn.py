"""LRN: x divided by a power of the mean square of its neighbours.

Source: Caffe's lrn_layer.cpp (Krizhevsky et al., 2012). alpha is divided by the number of
neighbours. WITHIN_CHANNEL is Caffe's composition of square, average pooling, power and product,
which knows no `k`: it is 1. What differs: half precision is squared and summed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["LRN", "lrn", "mean_across"]


def mean_across(squares: Tensor, size: int) -> Tensor:
    """Return the mean over `size` channels around each, zeros beyond the first and last."""
    # Six times faster on a CPU than F.local_response_norm, which pools in three dimensions.
    channels, half = squares.shape[1], size // 2
    padded = F.pad(squares, (0, 0, 0, 0, half, half))
    total = padded.narrow(1, 0, channels)
    for offset in range(1, size):
        total = total + padded.narrow(1, offset, channels)
    return total / size


def lrn(x: Tensor, *, size: int, alpha: float, beta: float, k: float, within: bool) -> Tensor:
    """Return x (k + alpha mean of squares)^-beta, the mean over channels or `within` one."""
    squares = x.to(torch.promote_types(x.dtype, torch.float32)).square()
    # At stride 1 Caffe's windows reach over the padding only: all divide by size^2.
    mean = F.avg_pool2d(squares, size, 1, size // 2) if within else mean_across(squares, size)
    return x * (mean * alpha + k).pow(-beta).to(x.dtype)


@register_layer("LRN", param="lrn_param")
class LRN(Layer):
    """x (k + alpha / n * sum x^2)^-beta, the sum over n neighbours, zeros beyond the edges.

    ACROSS_CHANNELS: n = local_size channels. WITHIN_CHANNEL: n = local_size^2 positions, k = 1.
    """

    function = staticmethod(lrn)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        options = self.options
        self.size, self.alpha, self.beta = options.local_size, options.alpha, options.beta
        self.within = options.norm_region == options.WITHIN_CHANNEL
        self.k = 1.0 if self.within else options.k
        if self.size % 2 == 0:
            raise self.error(f"local_size {self.size}", expected="an odd number")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of axes and return the bottom's shape."""
        if len(bottom_shapes[0]) != 4:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="4 axes (N, C, H, W)")
        return bottom_shapes
