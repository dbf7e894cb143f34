"""The layers that compute each element alone: ReLU to HardSigmoid, none with parameter blobs.

Source: Caffe's neuron_layer.hpp and relu, elu, sigmoid, tanh, absval, bnll, power, exp, log,
threshold, swish and clip_layer.cpp; Mish (Misra, 2019), ReLU6 (MobileNet-YOLO's), HardSwish and
HardSigmoid (MobileNetV3, Howard et al., 2019, section 5.2) are of forks.
What differs: the gradient is that of the bottom in place too, where Caffe refuses (AbsVal) or reads
the bottom that the top has overwritten (BNLL, Log, Power, Clip); where a Power of 0 meets bottom 0
it is the limit and not 0 / 0. PReLU and Dropout, neurons in Caffe, have files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.pending_logits import PendingProduct
from sphereface.caffe.registry import register_layer

__all__ = [
    "BNLL",
    "ELU",
    "AbsVal",
    "Clip",
    "Exp",
    "HardSigmoid",
    "HardSwish",
    "Log",
    "Mish",
    "Power",
    "ReLU",
    "ReLU6",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
    "absval",
    "bnll",
    "clip",
    "elu",
    "exp",
    "hard_sigmoid",
    "hard_swish",
    "log",
    "mish",
    "power",
    "relu",
    "relu6",
    "sigmoid",
    "swish",
    "tanh",
    "threshold",
]


def relu(x: Tensor, *, negative_slope: float) -> Tensor:
    """Return x where positive, negative_slope * x elsewhere."""
    return F.leaky_relu(x, negative_slope) if negative_slope else F.relu(x)


@register_layer("ReLU", param="relu_param")
class ReLU(Layer):
    """max(x, 0) + negative_slope min(x, 0); at 0 the gradient is the negative side's."""

    function = staticmethod(relu)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the slope."""
        self.negative_slope = self.options.negative_slope


def elu(x: Tensor, *, alpha: float) -> Tensor:
    """Return the exponential linear unit of x."""
    return F.elu(x, alpha)


@register_layer("ELU", param="elu_param")
class ELU(Layer):
    """x where positive, alpha (e^x - 1) elsewhere; at 0 the gradient is alpha."""

    function = staticmethod(elu)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read alpha."""
        self.alpha = self.options.alpha


def sigmoid(x: Tensor) -> Tensor:
    """Return the sigmoid of x."""
    return torch.sigmoid(x)


@register_layer("Sigmoid", param="sigmoid_param")
class Sigmoid(Layer):
    """1 / (1 + e^-x)."""

    function = staticmethod(sigmoid)


def tanh(x: Tensor) -> Tensor:
    """Return tanh x."""
    return torch.tanh(x)


@register_layer("TanH", param="tanh_param")
class TanH(Layer):
    """The hyperbolic tangent."""

    function = staticmethod(tanh)


def absval(x: Tensor) -> Tensor:
    """Return |x|."""
    return x.abs()


@register_layer("AbsVal")
class AbsVal(Layer):
    """|x|; at 0 the gradient is 0."""

    function = staticmethod(absval)


def bnll(x: Tensor) -> Tensor:
    """Return log(1 + e^x)."""
    return F.softplus(x, threshold=50)


@register_layer("BNLL")
class BNLL(Layer):
    """log(1 + e^x), the binomial normal log likelihood; beyond 50 it is x, to the last bit."""

    function = staticmethod(bnll)


def power(x: Tensor, *, constant: float | None, power: float, scale: float, shift: float) -> Tensor:
    """Return (shift + scale x)^power, or a constant whatever x is."""
    if constant is not None:
        # The bottom keeps a gradient, zero, and its NaN does not reach the top.
        return torch.where(torch.zeros_like(x, dtype=torch.bool), x, constant)
    if scale != 1:
        x = x * scale
    if shift != 0:
        x = x + shift
    return x if power == 1 else x.pow(power)


@register_layer("Power", param="power_param")
class Power(Layer):
    """(shift + scale x)^power; with power or scale 0 a constant, whatever x is."""

    function = staticmethod(power)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read power, scale and shift."""
        options = self.options
        self.power, self.scale, self.shift = options.power, options.scale, options.shift
        self.constant: float | None = None
        if self.power * self.scale == 0:
            # torch's pow, because Python's raises where C's gives inf or NaN.
            base = torch.tensor(self.shift, dtype=torch.float64)
            self.constant = float(base.pow(self.power))

    @property
    def takes_pending(self) -> bool:
        """Whether it multiplies by one number, finite and not 0."""
        return self.power == 1 and self.shift == 0 and self.constant_factor() is not None

    def of_pending(self, logits: PendingProduct) -> PendingProduct:
        """Return logits whose layer left them to their loss (`sphereface.caffe.fused_loss`)."""
        return logits.times(self)

    def constant_factor(self) -> float | None:
        """Return the number; None if it is 0 or not finite."""
        return self.scale if self.scale and math.isfinite(self.scale) else None


def _log_of_base(layer: Layer, base: float) -> float:
    """Return ln(base), 1 for the base -1 that stands for e."""
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise layer.error(f"base {base:g}", expected="a positive base, or -1 for e")
    return math.log(base)


def exp(x: Tensor, *, inner: float, outer: float) -> Tensor:
    """Return outer e^(inner x), base^(shift + scale x)."""
    y = torch.exp(x if inner == 1 else x * inner)
    return y if outer == 1 else y * outer


@register_layer("Exp", param="exp_param")
class Exp(Layer):
    """base^(shift + scale x); the default base -1 stands for e."""

    function = staticmethod(exp)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Turn the base into factors of the exponent and of the result."""
        log_base = _log_of_base(self, self.options.base)
        self.inner = log_base * self.options.scale
        # A shift beyond float's range is inf, as in C; math.exp would raise.
        self.outer = float(torch.tensor(log_base * self.options.shift, dtype=torch.float64).exp())


def log(x: Tensor, *, scale: float, shift: float, outer: float) -> Tensor:
    """Return the logarithm of shift + scale x."""
    if scale != 1:
        x = x * scale
    if shift != 0:
        x = x + shift
    return x.log() if outer == 1 else x.log() * outer


@register_layer("Log", param="log_param")
class Log(Layer):
    """log(shift + scale x) to a base; the default base -1 stands for e."""

    function = staticmethod(log)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read scale and shift and turn the base into a factor of the result."""
        options = self.options
        self.scale, self.shift = options.scale, options.shift
        log_base = _log_of_base(self, options.base)
        if log_base == 0:
            raise self.error("base 1", expected="a base whose logarithm is not 0")
        self.outer = 1 / log_base


def threshold(x: Tensor, *, threshold: float) -> Tensor:
    """Return x > threshold as numbers."""
    return (x > threshold).to(x.dtype)


@register_layer("Threshold", param="threshold_param")
class Threshold(Layer):
    """1 where x > threshold, 0 elsewhere. Not differentiable."""

    function = staticmethod(threshold)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the threshold."""
        self.threshold = self.options.threshold


def swish(x: Tensor, *, beta: float) -> Tensor:
    """Return x sigmoid(beta x)."""
    return F.silu(x) if beta == 1 else x * torch.sigmoid(beta * x)


@register_layer("Swish", param="swish_param")
class Swish(Layer):
    """x / (1 + e^(-beta x))."""

    function = staticmethod(swish)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read beta."""
        self.beta = self.options.beta


def clip(x: Tensor, *, min: float, max: float) -> Tensor:
    """Return x limited to min ... max."""
    return x.clamp(min, max)


@register_layer("Clip", param="clip_param")
class Clip(Layer):
    """x limited to min ... max; the gradient passes within, the limits included."""

    function = staticmethod(clip)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the limits."""
        options = self.options
        if not (options.HasField("min") and options.HasField("max")):
            raise self.error("clip_param without both limits", expected="min and max")
        self.min, self.max = options.min, options.max
        if self.min > self.max:
            raise self.error(f"min {self.min:g}, max {self.max:g}", expected="min at most max")


def relu6(x: Tensor) -> Tensor:
    """Return x limited to 0 ... 6."""
    return F.relu6(x)


@register_layer("ReLU6")
class ReLU6(Layer):
    """min(max(x, 0), 6); the gradient passes between the limits."""

    function = staticmethod(relu6)


def mish(x: Tensor) -> Tensor:
    """Return x tanh log(1 + e^x)."""
    return F.mish(x)


@register_layer("Mish")
class Mish(Layer):
    """x tanh(log(1 + e^x))."""

    function = staticmethod(mish)


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return x / 6 + 1 / 2 limited to 0 ... 1."""
    return F.relu6(x + 3) / 6


@register_layer("HardSigmoid")
class HardSigmoid(Layer):
    """min(max(x + 3, 0), 6) / 6."""

    function = staticmethod(hard_sigmoid)


def hard_swish(x: Tensor) -> Tensor:
    """Return x times its hard sigmoid."""
    return x * hard_sigmoid(x)


@register_layer("HardSwish")
class HardSwish(Layer):
    """x min(max(x + 3, 0), 6) / 6."""

    function = staticmethod(hard_swish)
