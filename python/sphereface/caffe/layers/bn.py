"""BN: batch normalisation with its slope and bias in one layer, of the time before BatchNorm.

Source: bn_layer.cpp of the forks of yjxiong and of L-Softmax (`bn_param`, field 201), not of BVLC;
with ``bn_mode``, ``scale_filler`` or ``shift_filler`` bn_layer.cpp of SegNet's fork, which ENet
uses; with ``moving_average`` that of PSPNet's first nets, which their authors wrote anew in the
first form. Running averages are plain ones, running = momentum running + (1 - momentum) batch, of
the biased variance. As there, slope and bias start at 0 unless their fillers say otherwise. What
differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.batch_norm import batch_statistics, fix_blobs
from sphereface.caffe.registry import register_layer
from sphereface.proto import schema

__all__ = ["BN", "bn", "segnet_bn"]

_SEGNET_EPS = 1e-9


def bn(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    momentum: float,
    frozen: bool,
    training: bool,
) -> Tensor:
    """Return x normalised, times slope, plus bias; in training also move the statistics."""
    slope, shift = weight.flatten(), bias.flatten()
    if frozen or not training:
        return F.batch_norm(x, mean.flatten(), variance.flatten(), slope, shift, eps=eps)
    count = x.numel() // x.shape[1]
    if count > 1:
        y, batch_mean, batch_variance = batch_statistics(x, eps, weight=slope, bias=shift)
        batch_variance = batch_variance * ((count - 1) / count)
    else:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        y = (x - x) * slope.reshape(shape) + shift.reshape(shape)
        batch_mean, batch_variance = x.detach().flatten(), torch.zeros_like(x).flatten()
    with torch.no_grad():
        for blob, value in ((mean, batch_mean), (variance, batch_variance)):
            blob.mul_(momentum).add_(value.view_as(blob), alpha=1 - momentum)
    return y


def segnet_bn(
    x: Tensor, *, weight: Tensor, bias: Tensor, eps: float, learn: bool, top_count: int
) -> Tensor | tuple[Tensor, ...]:
    """Return scale x + shift, of x normalised by its own statistics if it is to `learn`."""
    shape = (1, -1) + (1,) * (x.dim() - 2)
    scale, shift = weight.reshape(shape), bias.reshape(shape)
    if not learn:
        return x * scale + shift
    axes = [0, *range(2, x.dim())]
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    y = (x - mean) * (scale / (variance + eps).sqrt()) + shift
    if top_count == 1:
        return y
    statistics = [value.detach().reshape(1, -1, 1, 1) for value in (mean, variance)]
    return (y, *statistics[: top_count - 1])


@register_layer("BN", param="bn_param")
class BN(Layer):
    """slope (x - mean) / sqrt(variance + eps) + bias for each channel (axis 1).

    Statistics of the batch in TRAIN; the running ones in TEST and with ``frozen: true``, which also
    stops slope and bias from learning. Blobs, all (1, C, 1, 1): ``weight`` (the slope), ``bias``,
    ``mean``, ``variance``. With ``moving_average: true`` the fillers of slope and bias are
    ``scale_filler`` and ``shift_filler``, and the momentum is 1 - ``decay``.

    SegNet's form has the blobs ``weight`` (the scale) and ``bias`` (the shift) only. ``bn_mode:
    LEARN``, the default, takes the batch's statistics, with eps 1e-9, in both phases; INFERENCE
    takes none, ``y = scale x + shift``. A second and a third top of LEARN, (1, C, 1, 1), are the
    batch's mean and variance.
    """

    tops = Arity(1, 3)
    function = staticmethod(bn)
    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create slope, bias and statistics."""
        options = self.options
        if not 2 <= len(bottom_shapes[0]) <= 4:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="2 to 4 axes")
        shape = (1, bottom_shapes[0][1], 1, 1)
        given = any(map(options.HasField, ("scale_filler", "shift_filler", "bn_mode")))
        given = given and not options.moving_average
        self.form: Literal["plain", "LEARN", "INFERENCE"] = (
            self.option_name("bn_mode") if given else "plain"  # type: ignore[assignment]
        )
        if self.top_count > 1 and self.form != "LEARN":
            raise self.error(f"{self.top_count} tops", expected="1, or bn_mode: LEARN")
        if given:
            self._segnet(shape)
        else:
            self._plain(shape)

    def _plain(self, shape: Shape) -> None:
        options = self.options
        self.momentum, self.eps, self.frozen = options.momentum, options.eps, options.frozen
        slope, shift = options.slope_filler, options.bias_filler
        if options.moving_average:
            if not 0 < options.decay <= 1:
                raise self.error(f"decay {options.decay}", expected="above 0 and at most 1")
            self.momentum = 1 - options.decay
            slope, shift = options.scale_filler, options.shift_filler
        fix_blobs(self, 4, range(0 if self.frozen else 2, 4), lr_mult=0, decay_mult=0)
        self.add_blob("weight", shape, slope)
        self.add_blob("bias", shape, shift)
        self.add_blob("mean", shape, buffer=True)
        # 1 for the net that is frozen without trained statistics.
        start = schema.message("FillerParameter")(value=1) if self.frozen else None
        self.add_blob("variance", shape, start, buffer=True)

    def _segnet(self, shape: Shape) -> None:
        self.learn, self.eps = self.form == "LEARN", _SEGNET_EPS
        self.compute_by(segnet_bn)
        self.add_blob("weight", shape, self.options.scale_filler)
        self.add_blob("bias", shape, self.options.shift_filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the channels and return the bottom's shape, and those of the statistics."""
        if bottom_shapes[0][1:2] != tuple(self.weight.shape[1:2]):
            raise self.error(
                f"bottom of shape {bottom_shapes[0]}",
                expected=f"{self.weight.shape[1]} channels on axis 1",
            )
        return [bottom_shapes[0], *[tuple(self.weight.shape)] * (self.top_count - 1)]
