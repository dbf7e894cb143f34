"""What becomes of the channels in each layer type.

A rule returns the channels of the tops, or why the bottoms' channels have to stay. A type without a
rule keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sphereface.caffe import Layer
from sphereface.pruning.channels import BlobAxis, ChannelMap, Filters, Ids, Number

__all__ = ["RULES", "Place"]

Shape = tuple[int, ...]


class Place(NamedTuple):
    """A layer, its shapes, and what is done with channels that sums join."""

    layer: Any
    bottoms: list[Shape]
    tops: list[Shape]
    residual: str


Rule = Callable[[ChannelMap, Place, Sequence[Ids]], "Sequence[Ids] | str"]


def _channelwise(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    """Each top has the channels of its bottom, of the only bottom, or of all, which are tied."""
    if min(map(len, place.bottoms)) < 2:
        return _feeds(place.layer)
    channels.tie(*bottoms)
    return [bottoms[0]] * len(place.tops)


def _with_blobs(*names: str, axis: int = 0) -> Rule:
    """Return the rule of a layer with a value a channel in its blobs `names`."""

    def rule(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
        tops = _channelwise(channels, place, bottoms)
        if not isinstance(tops, str):
            _follow(channels, place.layer, names, axis, bottoms[0])
        return tops

    return rule


def _follow(channels: ChannelMap, layer: Layer, names: Sequence[str], axis: int, ids: Ids) -> None:
    for name in names:
        blob = getattr(layer, name, None)
        if blob is not None and blob.dim() > axis:
            channels.axes.append(BlobAxis(layer, name, axis, ids))


def _convolution(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    layer = place.layer
    if layer.axis != 1:
        return _feeds(layer)
    channels.tie(*bottoms)
    below, group = bottoms[0], layer.group
    # Of a Deconvolution's weight the first axis is the input's.
    out_axis, in_axis = (1, 0) if layer.type == "Deconvolution" else (0, 1)
    if group == 1:
        above = channels.new(layer.num_output)
        _follow(channels, layer, ["weight"], in_axis, below)
    elif group == layer.channels and (out_axis == 0 or group == layer.num_output):
        above, out_axis = np.repeat(below, layer.num_output // group), 0
        if layer.options.HasField("group"):
            channels.numbers.append(Number(layer.name, "convolution_param", "group", (below,)))
    else:
        return f"feeds layer {layer.name}, which has group {group}"
    _follow(channels, layer, ["weight"], out_axis, above)
    _follow(channels, layer, ["bias"], 0, above)
    channels.filters.append(Filters(layer, out_axis, above))
    channels.numbers.append(Number(layer.name, "convolution_param", "num_output", (above,)))
    return [above] * len(place.tops)


def _inner_product(
    channels: ChannelMap, place: Place, bottoms: Sequence[Ids]
) -> Sequence[Ids] | str:
    """Its own outputs go only with channels that a convolution makes (squeeze-and-excitation)."""
    layer = place.layer
    if len(bottoms) > 1 or layer.axis != 1:
        return _feeds(layer)
    out_axis, in_axis = (1, 0) if layer.transpose else (0, 1)
    above = channels.new(layer.num_output)
    _follow(channels, layer, ["weight"], in_axis, np.repeat(bottoms[0], prod(place.bottoms[0][2:])))
    _follow(channels, layer, ["weight"], out_axis, above)
    _follow(channels, layer, ["bias"], 0, above)
    channels.numbers.append(Number(layer.name, "inner_product_param", "num_output", (above,)))
    return [above]


def _eltwise(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    if place.residual == "keep" and place.layer.operation == "SUM":
        for bottom in bottoms:
            channels.freeze(bottom, f"goes into the sum {place.layer.name}")
    return _channelwise(channels, place, bottoms)


def _concat(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    if _axis(place) == 1:
        return [np.concatenate(bottoms)]
    return _channelwise(channels, place, bottoms)


def _slice(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    layer = place.layer
    if _axis(place) != 1:
        return _channelwise(channels, place, bottoms)
    ends = np.cumsum([0, *(shape[1] for shape in place.tops)])
    pieces = [bottoms[0][start:end] for start, end in pairwise(ends)]
    if layer.points:
        channels.numbers.append(
            Number(layer.name, "slice_param", "slice_point", tuple(pieces[:-1]))
        )
    else:
        channels.tie(*pieces)  # which must stay of one size
    return pieces


def _flatten(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    shape, axes = place.bottoms[0], len(place.bottoms[0])
    start, end = place.layer.axis % axes, place.layer.end_axis % axes
    if start == 1 and end == axes - 1:
        return [np.repeat(bottoms[0], prod(shape[2:]))]
    return _channelwise(channels, place, bottoms) if start > 1 else _feeds(place.layer)


def _scale(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    layer, shape = place.layer, place.bottoms[0]
    axis = layer.axis % len(shape) if shape else 0
    if len(bottoms) == 2:  # squeeze-and-excitation: the second has a factor a channel
        both = axis == 0 and len(place.bottoms[1]) > 1 and not layer.blob_names
        return _channelwise(channels, place, bottoms) if both else _feeds(layer)
    if axis == 1 or not layer.blobs[0].dim():
        return _with_blobs("weight", "bias")(channels, place, bottoms)
    return _channelwise(channels, place, bottoms) if axis > 1 else _feeds(layer)


def _crop(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    return [bottoms[0]] if place.layer.axis > 1 else _feeds(place.layer)


def _lrn(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    within = place.layer.within
    return _channelwise(channels, place, bottoms) if within else _feeds(place.layer)


def _mvn(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    across = place.layer.options.across_channels
    return _feeds(place.layer) if across else _channelwise(channels, place, bottoms)


def _silence(channels: ChannelMap, place: Place, bottoms: Sequence[Ids]) -> Sequence[Ids] | str:
    return []


def _axis(place: Place) -> int:
    return int(place.layer.axis) % len(place.bottoms[0])


def _feeds(layer: Layer) -> str:
    return f"feeds layer {layer.name} ({layer.type})"


_CHANNELWISE = (
    *("AbsVal", "BNLL", "Clip", "ELU", "Exp", "HardSigmoid", "HardSwish", "Log", "Mish", "Power"),
    *("ReLU", "ReLU6", "Sigmoid", "Swish", "TanH", "Threshold"),
    *("Axpy", "Dropout", "Interp", "Pooling", "Pooling3D", "Split"),
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_CHANNELWISE, _channelwise),
    **dict.fromkeys(
        ("Convolution", "Convolution3D", "ConvolutionRistretto", "HoleConvolution"), _convolution
    ),
    **dict.fromkeys(("DepthwiseConvolution", "ConvolutionDepthwise"), _convolution),
    "Deconvolution": _convolution,
    **dict.fromkeys(("InnerProduct", "FcRistretto"), _inner_product),
    "PReLU": _with_blobs("weight"),
    "BatchNorm": _with_blobs("mean", "variance", "weight", "bias"),
    "BN": _with_blobs("weight", "bias", "mean", "variance", axis=1),
    **dict.fromkeys(("Scale", "Bias"), _scale),
    "Eltwise": _eltwise,
    "Concat": _concat,
    "Slice": _slice,
    "Flatten": _flatten,
    "Crop": _crop,
    "LRN": _lrn,
    "MVN": _mvn,
    "Silence": _silence,
}
