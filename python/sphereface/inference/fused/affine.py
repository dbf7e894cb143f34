"""Layers that multiply and shift channels, and those that rectify them, as numbers.

Which layers these are in TEST: BatchNorm and BN with stored statistics, Scale and Bias by a blob,
Power of exponent 1; ReLU and PReLU. All numbers are float64, so that folding rounds once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.batch_norm import BatchNorm
from sphereface.caffe.layers.bias import Bias
from sphereface.caffe.layers.bn import BN
from sphereface.caffe.layers.neuron import Power, ReLU
from sphereface.caffe.layers.prelu import PReLU
from sphereface.caffe.layers.scale import Scale

__all__ = ["Affine", "affine_of", "slopes_of"]


class Affine(NamedTuple):
    """y = scale x + shift of each channel; both (C,), float64."""

    scale: Tensor
    shift: Tensor

    def then(self, other: Affine) -> Affine:
        """Return what both do, this one first."""
        return Affine(self.scale * other.scale, self.shift * other.scale + other.shift)


def affine_of(layer: Layer, shape: Shape) -> Affine | None:
    """Return what `layer` does to the channels (axis 1) of a bottom of `shape`, if it is affine."""
    if len(shape) < 2:
        return None
    if isinstance(layer, BatchNorm):
        return _batch_norm(layer)
    if isinstance(layer, BN):
        return _bn(layer)
    if type(layer) in (Bias, Scale):
        return _scale(layer, shape)  # type: ignore[arg-type] # one of them
    if isinstance(layer, Power) and layer.constant is None and layer.power == 1:
        return Affine(_filled(shape[1], layer.scale), _filled(shape[1], layer.shift))
    return None


def slopes_of(layer: Layer, shape: Shape) -> Tensor | None:
    """Return the factor of a rectifier's negative values, (C,) float64, or None of other layers."""
    if len(shape) < 2:
        return None
    if isinstance(layer, ReLU):
        return _filled(shape[1], layer.negative_slope)
    if isinstance(layer, PReLU):
        return _exact(layer.weight).expand(shape[1])
    return None


def _filled(channels: int, value: float) -> Tensor:
    return torch.full((channels,), value, dtype=torch.float64)


def _exact(blob: Tensor) -> Tensor:
    return blob.detach().to("cpu", torch.float64)


def _batch_norm(layer: BatchNorm) -> Affine | None:
    if layer.training if layer.use_global_stats is None else not layer.use_global_stats:
        return None
    count = _exact(layer.scale_factor)
    factor = torch.where(count == 0, 0, 1 / count)
    mean, variance = _exact(layer.mean) * factor, _exact(layer.variance) * factor
    return _normalised(mean, variance, layer.eps, layer.weight, layer.bias)


def _bn(layer: BN) -> Affine | None:
    weight, bias = layer.weight.flatten(), layer.bias.flatten()
    if layer.form == "plain":
        mean, variance = _exact(layer.mean).flatten(), _exact(layer.variance).flatten()
        return _normalised(mean, variance, layer.eps, weight, bias)
    return Affine(_exact(weight), _exact(bias)) if layer.form == "INFERENCE" else None


def _normalised(
    mean: Tensor, variance: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None
) -> Affine:
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * _exact(weight)
    shift = -mean * scale
    return Affine(scale, shift if bias is None else shift + _exact(bias))


def _scale(layer: Bias, shape: Shape) -> Affine | None:
    if not layer.blob_names or len(layer.layer_param.bottom) > 1:
        return None  # a bottom is the factor
    blob = layer.blobs[0]
    if blob.dim() > 1 or (blob.dim() == 1 and layer.axis % len(shape) != 1):
        return None
    scale, shift = _filled(shape[1], 1), _filled(shape[1], 0)
    if isinstance(layer, Scale):
        scale = _exact(layer.weight)
        if layer.min_value is not None or layer.max_value is not None:
            scale = scale.clamp(layer.min_value, layer.max_value)
    if layer.bias is not None:
        shift = _exact(layer.bias)
    return Affine(scale.expand(shape[1]), shift.expand(shape[1]))
