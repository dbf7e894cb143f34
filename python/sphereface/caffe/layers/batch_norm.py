"""BatchNorm: (x - mean) / sqrt(variance + eps), a mean and variance a channel, without affine part.

Source: Caffe's batch_norm_layer.cpp (Ioffe and Szegedy, 2015). The three blobs are sums over
batches, each step scaled by moving_average_fraction, and the count of that sum divides them.
``scale_bias`` is NVIDIA's. What differs: the blobs are buffers, not parameters, and stay float32 in
a half-precision net (sums of a thousand batches leave float16's range).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer
from sphereface.proto import schema

__all__ = ["BatchNorm", "batch_norm", "batch_statistics", "fix_blobs"]


def fix_blobs(layer: Layer, count: int, fixed: Iterable[int], **multipliers: float) -> None:
    """Give blobs of `layer` these multipliers, as Caffe does by completing the layer's `param`.

    Call it before ``add_blob``. `count` is the number of the layer's blobs; the multipliers of
    those in `fixed` are overwritten. A layer with too many entries is left for `build` to refuse.
    """
    if len(layer.layer_param.param) > count:
        return
    # The message belongs to the net's graph, which other nets may be built from.
    param = deepcopy(layer.layer_param)
    while len(param.param) < count:
        param.param.add()
    for blob in fixed:
        for name, value in multipliers.items():
            setattr(param.param[blob], name, value)
    layer.layer_param = param


def batch_statistics(x: Tensor, eps: float, **affine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise `x` by its own mean and variance.

    Parameters
    ----------
    x : Tensor of shape (N, C, ...)
        At least two values a channel.
    eps : float
        Added to the variance.
    **affine : Tensor
        ``weight`` and ``bias`` of the result, both or none.

    Returns
    -------
    y, mean, variance : Tensor
        The result, and for each channel the mean and the unbiased variance, which have no gradient.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if "weight" in affine:
        dtype = affine["weight"].dtype
    mean = torch.zeros(x.shape[1], dtype=dtype, device=x.device)
    variance = torch.zeros_like(mean)
    # Of momentum 1, torch's running averages are the statistics of this batch.
    y = F.batch_norm(x, mean, variance, training=True, momentum=1.0, eps=eps, **affine)
    return y, mean, variance


def batch_norm(
    x: Tensor,
    *,
    mean: Tensor,
    variance: Tensor,
    scale_factor: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    fraction: float,
    use_global_stats: bool | None,
    training: bool,
) -> Tensor:
    """Return x normalised by the stored statistics, or by its own, which are added to them.

    Then times the weight, plus the bias, if there are any.
    """
    if x.dim() == 1:
        x = x.reshape(1, 1, -1)
        y = batch_norm(
            x,
            mean=mean,
            variance=variance,
            scale_factor=scale_factor,
            weight=weight,
            bias=bias,
            eps=eps,
            fraction=fraction,
            use_global_stats=use_global_stats,
            training=training,
        )
        return y.flatten()
    if not training if use_global_stats is None else use_global_stats:
        factor = torch.where(scale_factor == 0, 0, 1 / scale_factor)
        return F.batch_norm(x, mean * factor, variance * factor, weight, bias, eps=eps)
    if x.numel() > x.shape[1]:
        affine = {} if weight is None or bias is None else {"weight": weight, "bias": bias}
        y, batch_mean, batch_variance = batch_statistics(x, eps, **affine)
    else:
        # One value a channel, where torch's unbiased variance would be 0 / 0.
        y, batch_mean = x - x, x.detach().flatten()
        if weight is not None and bias is not None:
            shape = (1, -1) + (1,) * (x.dim() - 2)
            y = y * weight.reshape(shape) + bias.reshape(shape)
        batch_variance = torch.zeros_like(batch_mean)
    with torch.no_grad():
        scale_factor.mul_(fraction).add_(1)
        mean.mul_(fraction).add_(batch_mean)
        variance.mul_(fraction).add_(batch_variance)
    return y


@register_layer("BatchNorm", param="batch_norm_param")
class BatchNorm(Layer):
    """Normalise each channel (axis 1; a 1-D bottom is one channel).

    By the batch's mean and biased variance in TRAIN, by the running ones in TEST, unless
    ``use_global_stats`` says which. Blobs, all (re)set by training and never learned: ``mean`` (C,)
    and ``variance`` (C,), sums weighted by powers of ``moving_average_fraction``, the variances
    unbiased; ``scale_factor`` (1,), the sum of the weights. With ``scale_bias: true``, or a
    ``scale_filler`` or ``bias_filler``, there are two more, which are learned, and a Scale layer in
    this one: ``weight`` (C,), filled with 1, and ``bias`` (C,).
    """

    function = staticmethod(batch_norm)
    mean: Tensor
    variance: Tensor
    scale_factor: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the statistics."""
        options = self.options
        self.use_global_stats: bool | None = None
        if options.HasField("use_global_stats"):
            self.use_global_stats = options.use_global_stats
        self.fraction = options.moving_average_fraction
        self.eps = options.eps
        shape = bottom_shapes[0]
        if not shape:
            raise self.error("bottom without axes", expected="at least 1 axis")
        self.channels = shape[1] if len(shape) > 1 else 1
        for index, spec in enumerate(self.layer_param.param[:3]):
            if spec.lr_mult != 0:
                raise self.error(
                    f"param {index} has lr_mult {spec.lr_mult:g}",
                    expected="lr_mult: 0, because the statistics are not learned",
                )
        affine = options.scale_bias or any(map(options.HasField, ("scale_filler", "bias_filler")))
        fix_blobs(self, 5 if affine else 3, range(3), lr_mult=0)
        self.add_blob("mean", (self.channels,), buffer=True)
        self.add_blob("variance", (self.channels,), buffer=True)
        self.add_blob("scale_factor", (1,), buffer=True)
        if not affine:
            self.weight = self.bias = None  # type: ignore[assignment]
            return
        filler = options.scale_filler
        if not options.HasField("scale_filler"):
            filler = schema.message("FillerParameter")(value=1)
        self.add_blob("weight", (self.channels,), filler)
        self.add_blob("bias", (self.channels,), options.bias_filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the channels and return the bottom's shape."""
        shape = bottom_shapes[0]
        if (shape[1] if len(shape) > 1 else 1) != self.channels:
            raise self.error(
                f"bottom of shape {shape}", expected=f"{self.channels} channels on axis 1"
            )
        return [shape]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BatchNorm:
        def keep_range(blob: Tensor) -> Tensor:
            moved = fn(blob)
            if moved.dtype in (torch.float16, torch.bfloat16):
                return blob.to(moved.device, torch.float32)
            return moved

        return super()._apply(keep_range, recurse)
