"""What ported nets need beyond torch: the text of these definitions is put into their files.

Each is code of its own, with torch, functional as F, Tensor and nn imported, and inference as
Caffe's; what can train in torch without more (Scale, PReLU, BatchNorm) trains as in Caffe too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "BN",
    "BatchNorm",
    "Bias",
    "Embed",
    "NormalizedLinear",
    "Parameter",
    "Scale",
    "SharedPReLU",
    "TransposedLinear",
    "argmax",
    "lrn_within_channel",
    "mvn",
    "normalize",
    "pool",
    "spp",
    "stochastic_pool",
]


class BatchNorm(nn.Module):
    """Caffe's BatchNorm: sums of statistics and their count, without scale and bias."""

    mean: Tensor
    variance: Tensor
    scale_factor: Tensor

    def __init__(self, channels: int, eps: float, fraction: float) -> None:
        super().__init__()
        self.eps, self.fraction = eps, fraction
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.zeros(channels))
        self.register_buffer("scale_factor", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch's statistics in training, by the stored ones otherwise."""
        if not self.training:
            count = torch.where(self.scale_factor == 0, torch.inf, self.scale_factor)
            return F.batch_norm(x, self.mean / count, self.variance / count, eps=self.eps)
        mean, variance = torch.zeros_like(self.mean), torch.zeros_like(self.variance)
        y = F.batch_norm(x, mean, variance, training=True, momentum=1.0, eps=self.eps)
        self.scale_factor.mul_(self.fraction).add_(1)
        self.mean.mul_(self.fraction).add_(mean)
        self.variance.mul_(self.fraction).add_(variance)
        return y


class BN(nn.Module):
    """The older batch normalisation with its slope and bias, by stored statistics."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("variance", torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return slope (x - mean) / sqrt(variance + eps) + bias."""
        mean, variance = self.mean.flatten(), self.variance.flatten()
        return F.batch_norm(
            x, mean, variance, self.weight.flatten(), self.bias.flatten(), eps=self.eps
        )


class Scale(nn.Module):
    """x times a factor over the axes of `shape`, `behind` axes from the end, plus a bias."""

    def __init__(self, shape: tuple[int, ...], behind: int, bias: bool = False) -> None:
        super().__init__()
        self.spread = shape + (1,) * behind
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x * weight + bias."""
        y = x * self.weight.reshape(self.spread)
        return y if self.bias is None else y + self.bias.reshape(self.spread)


class Bias(nn.Module):
    """x plus a bias over the axes of `shape`, `behind` axes from the end."""

    def __init__(self, shape: tuple[int, ...], behind: int) -> None:
        super().__init__()
        self.spread = shape + (1,) * behind
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + bias."""
        return x + self.bias.reshape(self.spread)


class SharedPReLU(nn.Module):
    """PReLU with one slope for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Return x where positive, slope * x elsewhere."""
        return torch.prelu(x, self.weight)


class TransposedLinear(nn.Module):
    """x W + b, the weight stored as (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b."""
        return F.linear(x, self.weight.t(), self.bias)


class NormalizedLinear(nn.Linear):
    """x W^T + b with the rows of W divided by their norms."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x W^T / |W| + b."""
        norm = (self.weight.square().sum(1, keepdim=True) + 1e-6).sqrt()
        return F.linear(input, self.weight / norm, self.bias)


class Embed(nn.Module):
    """The row of a table for each index, plus a bias."""

    def __init__(self, rows: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return weight[x] + bias."""
        rows = F.embedding(x.long(), self.weight)
        return rows if self.bias is None else rows + self.bias


class Parameter(nn.Module):
    """A blob that is learned."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Tensor:
        """Return the blob."""
        return self.weight


def pool(
    x: Tensor, maximum: bool, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> Tensor:
    """Pool as Caffe does where torch cannot: padding beyond kernel / 2, or kernel < stride.

    Sizes round up. With padding, a window is dropped that starts beyond the input. An average
    divides by the window within the padded input.
    """
    padded = [pad[1], pad[1], pad[0], pad[0]]
    far = [s - 1 for s in stride]
    if max(pad) > 0:
        far = [min(f, k - p - 1) for f, k, p in zip(far, kernel, pad, strict=True)]
    beyond = [0, far[1], 0, far[0]]
    if maximum:
        lowest = torch.finfo(torch.float32).min
        x = F.pad(F.pad(x, padded, value=lowest), beyond, value=lowest)
        return F.max_pool2d(x, kernel, stride)
    ones = F.pad(torch.ones_like(x[:1, :1]), padded, value=1.0)
    share = F.avg_pool2d(F.pad(ones, beyond), kernel, stride)
    return F.avg_pool2d(F.pad(F.pad(x, padded), beyond), kernel, stride) / share


def stochastic_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Return the mean of each window weighted by its own values: stochastic pooling in testing."""
    x = F.pad(x, [0, stride[1] - 1, 0, stride[0] - 1])
    total = F.avg_pool2d(x, kernel, stride, divisor_override=1)
    squares = F.avg_pool2d(x.square(), kernel, stride, divisor_override=1)
    return torch.where(total > 0, squares / total, 0)


def lrn_within_channel(x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """Return x (1 + alpha mean of squares over size x size)^-beta."""
    mean = F.avg_pool2d(x.square(), size, 1, size // 2)
    return x * (1 + alpha * mean) ** -beta


def mvn(x: Tensor, first_axis: int, variance: bool, eps: float) -> Tensor:
    """Return x minus its mean, over its deviation, over the axes from `first_axis` on."""
    rows = x.reshape(*x.shape[:first_axis], -1)
    rows = rows - rows.mean(-1, keepdim=True)
    if variance:
        rows = rows / (rows.square().mean(-1, keepdim=True).sqrt() + eps)
    return rows.reshape(x.shape)


def spp(x: Tensor, levels: int, maximum: bool) -> Tensor:
    """Return x pooled to 1, 2 x 2, 4 x 4, ... windows, joined to a vector if there are several."""
    tops = []
    for bins in [2**level for level in range(levels)]:
        window = [-(-size // bins) for size in x.shape[2:]]
        missing = [w * bins - size for w, size in zip(window, x.shape[2:], strict=True)]
        near = [(m + 1) // 2 for m in missing]
        pads = [near[1], missing[1] - near[1], near[0], missing[0] - near[0]]
        value = torch.finfo(torch.float32).min if maximum else 0.0
        padded = F.pad(x, pads, value=value)
        y = F.max_pool2d(padded, window) if maximum else F.avg_pool2d(padded, window)
        tops.append(y)
    return tops[0] if levels == 1 else torch.cat([y.flatten(1) for y in tops], 1)


def normalize(x: Tensor, euclidean: bool) -> tuple[Tensor, Tensor]:
    """Return x over the norm of its channels, and the norm."""
    if euclidean:
        norm = (x.square().sum(1, keepdim=True) + 1e-6).sqrt()
    else:
        norm = x.abs().sum(1, keepdim=True) + 1e-6
    return x / norm, norm


def argmax(x: Tensor, top_k: int, values: bool, axis: int | None) -> Tensor:
    """Return the indices (or values) of the largest; of equal ones the larger index first."""
    rows = x.flatten(1) if axis is None else x.movedim(axis, -1)
    best, places = rows.flip(-1).sort(dim=-1, descending=True, stable=True)
    best = best[..., :top_k]
    indices = (rows.shape[-1] - 1 - places[..., :top_k]).to(x.dtype)
    if axis is not None:
        return (best if values else indices).movedim(-1, axis)
    layout = torch.stack([indices, best] if values else [indices], 1)
    return layout.reshape(layout.shape + (1,) * (x.dim() - 3))
