"""The layers that compute each element alone: ReLU to Clip, none with parameter blobs.

Source: Caffe's neuron_layer.hpp and relu, elu, sigmoid, tanh, absval, bnll, power, exp, log,
threshold, swish and clip_layer.cpp. What differs: the gradient is that of the bottom in place too,
where Caffe refuses (AbsVal) or reads the bottom that the top has overwritten (BNLL, Log, Power,
Clip); where a Power of 0 meets bottom 0 it is the limit and not 0 / 0. PReLU and Dropout, neurons
in Caffe, have files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = [
    "BNLL",
    "ELU",
    "AbsVal",
    "Clip",
    "Exp",
    "Log",
    "Power",
    "ReLU",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
]

_BNLL_THRESHOLD = 50


@register_layer("ReLU", param="relu_param")
class ReLU(Layer):
    """max(x, 0) + negative_slope min(x, 0); at 0 the gradient is the negative side's."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the slope."""
        self.negative_slope = self.options.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """Return x where positive, negative_slope * x elsewhere."""
        return F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)


@register_layer("ELU", param="elu_param")
class ELU(Layer):
    """x where positive, alpha (e^x - 1) elsewhere; at 0 the gradient is alpha."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read alpha."""
        self.alpha = self.options.alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return the exponential linear unit of x."""
        return F.elu(x, self.alpha)


@register_layer("Sigmoid", param="sigmoid_param")
class Sigmoid(Layer):
    """1 / (1 + e^-x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sigmoid of x."""
        return torch.sigmoid(x)


@register_layer("TanH", param="tanh_param")
class TanH(Layer):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Return tanh x."""
        return torch.tanh(x)


@register_layer("AbsVal")
class AbsVal(Layer):
    """|x|; at 0 the gradient is 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return |x|."""
        return x.abs()


@register_layer("BNLL")
class BNLL(Layer):
    """log(1 + e^x), the binomial normal log likelihood; beyond 50 it is x, to the last bit."""

    def forward(self, x: Tensor) -> Tensor:
        """Return log(1 + e^x)."""
        return F.softplus(x, threshold=_BNLL_THRESHOLD)


@register_layer("Power", param="power_param")
class Power(Layer):
    """(shift + scale x)^power; with power or scale 0 a constant, whatever x is."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read power, scale and shift."""
        options = self.options
        self.power, self.scale, self.shift = options.power, options.scale, options.shift
        self.constant: float | None = None
        if self.power * self.scale == 0:
            # torch's pow, because Python's raises where C's gives inf or NaN.
            base = torch.tensor(self.shift, dtype=torch.float64)
            self.constant = float(base.pow(self.power))

    def forward(self, x: Tensor) -> Tensor:
        """Return (shift + scale x)^power."""
        if self.constant is not None:
            # The bottom keeps a gradient, zero, and its NaN does not reach the top.
            return torch.where(torch.zeros_like(x, dtype=torch.bool), x, self.constant)
        if self.scale != 1:
            x = x * self.scale
        if self.shift != 0:
            x = x + self.shift
        return x if self.power == 1 else x.pow(self.power)


def _log_of_base(layer: Layer, base: float) -> float:
    """Return ln(base), 1 for the base -1 that stands for e."""
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise layer.error(f"base {base:g}", expected="a positive base, or -1 for e")
    return math.log(base)


@register_layer("Exp", param="exp_param")
class Exp(Layer):
    """base^(shift + scale x); the default base -1 stands for e."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Turn the base into factors of the exponent and of the result."""
        log_base = _log_of_base(self, self.options.base)
        self.inner = log_base * self.options.scale
        # A shift beyond float's range is inf, as in C; math.exp would raise.
        self.outer = float(torch.tensor(log_base * self.options.shift, dtype=torch.float64).exp())

    def forward(self, x: Tensor) -> Tensor:
        """Return base^(shift + scale x)."""
        y = torch.exp(x if self.inner == 1 else x * self.inner)
        return y if self.outer == 1 else y * self.outer


@register_layer("Log", param="log_param")
class Log(Layer):
    """log(shift + scale x) to a base; the default base -1 stands for e."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read scale and shift and turn the base into a factor of the result."""
        options = self.options
        self.scale, self.shift = options.scale, options.shift
        log_base = _log_of_base(self, options.base)
        if log_base == 0:
            raise self.error("base 1", expected="a base whose logarithm is not 0")
        self.outer = 1 / log_base

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithm of shift + scale x."""
        if self.scale != 1:
            x = x * self.scale
        if self.shift != 0:
            x = x + self.shift
        return x.log() if self.outer == 1 else x.log() * self.outer


@register_layer("Threshold", param="threshold_param")
class Threshold(Layer):
    """1 where x > threshold, 0 elsewhere. Not differentiable."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the threshold."""
        self.threshold = self.options.threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return x > threshold as numbers."""
        return (x > self.threshold).to(x.dtype)


@register_layer("Swish", param="swish_param")
class Swish(Layer):
    """x / (1 + e^(-beta x))."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read beta."""
        self.beta = self.options.beta

    def forward(self, x: Tensor) -> Tensor:
        """Return x sigmoid(beta x)."""
        return F.silu(x) if self.beta == 1 else x * torch.sigmoid(self.beta * x)


@register_layer("Clip", param="clip_param")
class Clip(Layer):
    """x limited to min ... max; the gradient passes within, the limits included."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the limits."""
        options = self.options
        if not (options.HasField("min") and options.HasField("max")):
            raise self.error("clip_param without both limits", expected="min and max")
        self.min, self.max = options.min, options.max
        if self.min > self.max:
            raise self.error(f"min {self.min:g}, max {self.max:g}", expected="min at most max")

    def forward(self, x: Tensor) -> Tensor:
        """Return x limited to min ... max."""
        return x.clamp(self.min, self.max)
