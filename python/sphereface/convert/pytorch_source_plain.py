"""PyTorch source of the layers without parameters: one expression each."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from sphereface.convert.pytorch_source_writer import (
    SourceWriter,
    argument_list,
    number,
    source_layer,
)

if TYPE_CHECKING:
    from sphereface.caffe import Layer
    from sphereface.caffe.layers import neuron
    from sphereface.caffe.layers.argmax import ArgMax
    from sphereface.caffe.layers.concat import Concat
    from sphereface.caffe.layers.crop import Crop
    from sphereface.caffe.layers.dropout import Dropout
    from sphereface.caffe.layers.eltwise import Eltwise
    from sphereface.caffe.layers.flatten import Flatten
    from sphereface.caffe.layers.lrn import LRN
    from sphereface.caffe.layers.mvn import MVN
    from sphereface.caffe.layers.normalize import Normalize
    from sphereface.caffe.layers.pooling import Pooling
    from sphereface.caffe.layers.reduction import Reduction
    from sphereface.caffe.layers.reshape import Reshape
    from sphereface.caffe.layers.slice import Slice
    from sphereface.caffe.layers.softmax import Softmax
    from sphereface.caffe.layers.spp import SPP
    from sphereface.caffe.layers.tile import Tile

__all__: list[str] = []  # reached by their registration only

_NEURONS = {
    "Sigmoid": "torch.sigmoid({x})",
    "TanH": "torch.tanh({x})",
    "AbsVal": "{x}.abs()",
    "BNLL": "F.softplus({x}, threshold=50)",
    "Flip": "{x}.flip(3)",
}


@source_layer(*_NEURONS)
def plain(writer: SourceWriter, layer: Layer, x: str) -> str:
    """Write a call without options."""
    return _NEURONS[layer.type].format(x=x)


@source_layer("ReLU")
def relu(writer: SourceWriter, layer: neuron.ReLU, x: str) -> str:
    """Write F.relu or F.leaky_relu."""
    slope = layer.negative_slope
    return f"F.leaky_relu({x}, {number(slope)})" if slope else f"F.relu({x})"


@source_layer("ELU")
def elu(writer: SourceWriter, layer: neuron.ELU, x: str) -> str:
    """Write F.elu."""
    return f"F.elu({x}, {number(layer.alpha)})"


@source_layer("Swish")
def swish(writer: SourceWriter, layer: neuron.Swish, x: str) -> str:
    """Write F.silu, or its formula with a beta."""
    if layer.beta == 1:
        return f"F.silu({x})"
    return f"{x} * torch.sigmoid({number(layer.beta)} * {x})"


@source_layer("Clip")
def clip(writer: SourceWriter, layer: neuron.Clip, x: str) -> str:
    """Write clamp."""
    return f"{x}.clamp({number(layer.min)}, {number(layer.max)})"


@source_layer("Threshold")
def threshold(writer: SourceWriter, layer: neuron.Threshold, x: str) -> str:
    """Write a comparison, as numbers."""
    return f"({x} > {number(layer.threshold)}).to({x}.dtype)"


@source_layer("Power")
def power(writer: SourceWriter, layer: neuron.Power, x: str) -> str:
    """Write (shift + scale x)^power, leaving out what does nothing."""
    if layer.constant is not None:
        return f"torch.full_like({x}, {number(layer.constant)})"
    base = _affine(layer.scale, layer.shift, x)
    if layer.power == 1:
        return base
    return f"({base}) ** {number(layer.power)}" if base != x else f"{x} ** {number(layer.power)}"


@source_layer("Exp")
def exp(writer: SourceWriter, layer: neuron.Exp, x: str) -> str:
    """Write torch.exp, with the base in the factors."""
    return _affine(layer.outer, 0, f"torch.exp({_affine(layer.inner, 0, x)})")


@source_layer("Log")
def log(writer: SourceWriter, layer: neuron.Log, x: str) -> str:
    """Write torch.log, with the base in the factor."""
    return _affine(layer.outer, 0, f"torch.log({_affine(layer.scale, layer.shift, x)})")


@source_layer("Dropout")
def dropout(writer: SourceWriter, layer: Dropout, x: str) -> str:
    """Write nn.Dropout."""
    return f"{writer.module(layer, 'nn.Dropout', number(layer.dropout_ratio))}({x})"


@source_layer("LabelSpecificAdd", "LabelSpecificRescale")
def pass_on(writer: SourceWriter, layer: Layer, x: str, label: str) -> str:
    """Write nothing: in TEST the top is the bottom."""
    return x


@source_layer("Split")
def split(writer: SourceWriter, layer: Layer, x: str) -> str:
    """Write the bottom for every top."""
    return ", ".join([x] * layer.top_count)


@source_layer("Silence")
def silence(writer: SourceWriter, layer: Layer, *bottoms: str) -> str:
    """Write nothing."""
    return ""


@source_layer("Pooling")
def pooling(writer: SourceWriter, layer: Pooling, x: str) -> str:
    """Write torch's pooling with sizes rounded up, or a helper where that is not Caffe's."""
    if layer.top_count == 2:
        raise layer.error("the second top, indices of maxima, is not ported")
    maximum, kernel = layer.method == "MAX", layer.kernel
    if kernel is None:
        if layer.method == "STOCHASTIC":
            raise layer.error("global pooling with pool: STOCHASTIC is not ported")
        return f"{x}.{'amax' if maximum else 'mean'}((2, 3), keepdim=True)"
    if layer.method == "STOCHASTIC":
        return f"{writer.helper('stochastic_pool')}({x}, {kernel}, {layer.stride})"
    fits = all(2 * p <= k for p, k in zip(layer.pad, kernel, strict=True))
    inside = max(layer.pad) > 0 or all(k >= s for k, s in zip(kernel, layer.stride, strict=True))
    if not (fits and inside):
        return f"{writer.helper('pool')}({x}, {maximum}, {kernel}, {layer.stride}, {layer.pad})"
    window = [kernel, layer.stride] + ([layer.pad] if max(layer.pad) else [])
    name = "max_pool2d" if maximum else "avg_pool2d"
    return f"F.{name}({x}, {argument_list(*window)}, ceil_mode=True)"


@source_layer("LRN")
def lrn(writer: SourceWriter, layer: LRN, x: str) -> str:
    """Write F.local_response_norm; a helper within channels."""
    if layer.within:
        arguments = argument_list(layer.size, layer.alpha, layer.beta)
        return f"{writer.helper('lrn_within_channel')}({x}, {arguments})"
    arguments = argument_list(layer.size, layer.alpha, layer.beta, layer.k)
    return f"F.local_response_norm({x}, {arguments})"


@source_layer("MVN")
def mvn(writer: SourceWriter, layer: MVN, x: str) -> str:
    """Write a helper."""
    arguments = argument_list(layer.first_axis, variance=layer.normalize_variance, eps=layer.eps)
    return f"{writer.helper('mvn')}({x}, {arguments})"


@source_layer("SPP")
def spp(writer: SourceWriter, layer: SPP, x: str) -> str:
    """Write a helper."""
    if layer.method == "STOCHASTIC":
        raise layer.error("pool: STOCHASTIC is not ported", expected="MAX or AVE")
    return f"{writer.helper('spp')}({x}, {layer.pyramid_height}, maximum={layer.method == 'MAX'})"


@source_layer("Normalize")
def normalize(writer: SourceWriter, layer: Normalize, x: str) -> str:
    """Write a helper that returns the norm too."""
    call = f"{writer.helper('normalize')}({x}, euclidean={layer.normalize_type == 'L2'})"
    return call if layer.top_count == 2 else f"{call}[0]"


@source_layer("ChannelScale")
def channel_scale(writer: SourceWriter, layer: Layer, x: str, factor: str) -> str:
    """Write the product with a factor of one channel."""
    return f"{x} * {factor}.reshape({x}.shape[0], 1, *{x}.shape[2:])"


@source_layer("Eltwise")
def eltwise(writer: SourceWriter, layer: Eltwise, *bottoms: str) -> str:
    """Write a sum with coefficients, a product, or torch.maximum."""
    enum = layer.options.DESCRIPTOR.enum_types_by_name["EltwiseOp"]
    operation = enum.values_by_number[layer.options.operation].name
    if operation == "MAX":
        return reduce(lambda first, second: f"torch.maximum({first}, {second})", bottoms)
    if operation == "PROD":
        return " * ".join(bottoms)
    if not layer.coeff:
        return " + ".join(bottoms)
    return " + ".join(_affine(c, 0, x) for c, x in zip(layer.coeff, bottoms, strict=True))


@source_layer("Concat")
def concat(writer: SourceWriter, layer: Concat, *bottoms: str) -> str:
    """Write torch.cat."""
    return f"torch.cat([{', '.join(bottoms)}], {layer.axis})"


@source_layer("Slice")
def slice_(writer: SourceWriter, layer: Slice, x: str) -> str:
    """Write tensor_split, at the points of the file or evenly."""
    if layer.top_count == 1:
        return x
    return f"{x}.tensor_split({layer.points or layer.top_count!r}, {layer.axis})"


@source_layer("Flatten")
def flatten(writer: SourceWriter, layer: Flatten, x: str) -> str:
    """Write flatten."""
    end = f", {layer.end_axis}" if layer.end_axis != -1 else ""
    return f"{x}.flatten({layer.axis}{end})"


@source_layer("Reshape")
def reshape(writer: SourceWriter, layer: Reshape, x: str) -> str:
    """Write reshape, with sizes taken from the bottom where Caffe copies them."""
    axes = writer.axes(layer)
    start, end = layer._range(axes)
    sizes = [f"{x}.shape[{i}]" for i in range(start)]
    sizes += [str(d) if d else f"{x}.shape[{i}]" for i, d in enumerate(layer.dims, start)]
    sizes += [f"{x}.shape[{i}]" for i in range(end, axes)]
    return f"{x}.reshape({', '.join(sizes) or '()'})"


@source_layer("Crop")
def crop(writer: SourceWriter, layer: Crop, x: str, sizes: str) -> str:
    """Write a slice of the second bottom's sizes."""
    parts = [
        f"{offset} : {offset} + {sizes}.shape[{axis}]" if offset else f": {sizes}.shape[{axis}]"
        for axis, offset in enumerate(layer.offsets, layer.axis)
    ]
    return f"{x}[{', '.join([':'] * layer.axis + parts)}]"


@source_layer("Tile")
def tile(writer: SourceWriter, layer: Tile, x: str) -> str:
    """Write repeat."""
    repeats = [1] * writer.axes(layer)
    repeats[layer.axis] = layer.tiles
    return f"{x}.repeat({', '.join(map(str, repeats))})"


@source_layer("Reduction")
def reduction(writer: SourceWriter, layer: Reduction, x: str) -> str:
    """Write a sum or mean over the flattened last axes."""
    enum = layer.options.DESCRIPTOR.enum_types_by_name["ReductionOp"]
    operation = enum.values_by_number[layer.options.operation].name
    calls = {"SUM": "sum", "ASUM": "abs().sum", "SUMSQ": "square().sum", "MEAN": "mean"}
    return _affine(layer.coeff, 0, f"{x}.flatten({layer.axis}).{calls[operation]}(-1)")


@source_layer("Softmax")
def softmax(writer: SourceWriter, layer: Softmax, x: str) -> str:
    """Write softmax."""
    return f"{x}.softmax({layer.axis})"


@source_layer("ArgMax")
def argmax(writer: SourceWriter, layer: ArgMax, x: str) -> str:
    """Write a helper."""
    values: dict[str, Any] = {"values": layer.out_max_val, "axis": layer.axis}
    return f"{writer.helper('argmax')}({x}, {argument_list(layer.top_k, **values)})"


@source_layer("Filter")
def filter_(writer: SourceWriter, layer: Layer, *bottoms: str) -> str:
    """Write the samples that the last bottom marks."""
    *values, selector = bottoms
    return ", ".join(f"{x}[{selector}.flatten() != 0]" for x in values)


@source_layer("BatchReindex")
def batch_reindex(writer: SourceWriter, layer: Layer, x: str, indices: str) -> str:
    """Write the samples of those indices."""
    return f"{x}[{indices}.long()]"


def _affine(scale: float, shift: float, x: str) -> str:
    """Return the text of shift + scale x, without what does nothing."""
    if scale != 1:
        x = f"-{x}" if scale == -1 else f"{number(scale)} * {x}"
    return f"{number(shift)} + {x}" if shift != 0 else x
