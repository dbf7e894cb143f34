"""PyTorch source of the layers that have parameters: submodules with their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.pytorch_source_writer import (
    SourceWriter,
    argument_list,
    source_layer,
)

if TYPE_CHECKING:
    from sphereface.caffe.layers.batch_norm import BatchNorm
    from sphereface.caffe.layers.bias import Bias
    from sphereface.caffe.layers.bn import BN
    from sphereface.caffe.layers.convolution import Convolution
    from sphereface.caffe.layers.embed import Embed
    from sphereface.caffe.layers.inner_product import InnerProduct
    from sphereface.caffe.layers.parameter import Parameter
    from sphereface.caffe.layers.prelu import PReLU
    from sphereface.caffe.layers.scale import Scale

__all__ = [
    "batch_norm", "bias", "bn", "convolution", "embed", "inner_product", "parameter", "prelu",
    "scale",
]  # fmt: skip


@source_layer("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "Deconvolution")
def convolution(writer: SourceWriter, layer: Convolution, *bottoms: str) -> str:
    """Write nn.Conv1d to 3d, or the transposed one, with the options that are not default."""
    if layer.axis != 1:
        raise layer.error(f"axis {layer.axis} is not ported", expected="axis 1")
    defaults = {"stride": 1, "padding": 0, "groups": 1, "dilation": 1, "bias": True}
    given = {
        "stride": layer.stride,
        "padding": layer.pad,
        "groups": layer.group,
        "dilation": layer.dilation,
        "bias": layer.bias is not None,
    }
    options = {
        name: value
        for name, value in given.items()
        if value != defaults[name] and value != (defaults[name],) * len(layer.kernel)
    }
    kind = "ConvTranspose" if layer.type == "Deconvolution" else "Conv"
    arguments = argument_list(layer.channels, layer.num_output, layer.kernel, **options)
    call = writer.module(layer, f"nn.{kind}{len(layer.kernel)}d", arguments)
    return ", ".join(f"{call}({bottom})" for bottom in bottoms)


@source_layer("InnerProduct")
def inner_product(writer: SourceWriter, layer: InnerProduct, x: str, *weights: str) -> str:
    """Write nn.Linear of the flattened bottom."""
    if writer.axes(layer) > layer.axis + 1:
        x = f"{x}.flatten({layer.axis})" if layer.axis else f"{x}.flatten()"
    bias = layer.bias is not None
    if weights:
        rows = f"{weights[0]}.flatten(1)" + (".t()" if layer.transpose else "")
        terms = weights[1:]
        if bias:
            raise layer.error("a weight from a bottom and a bias blob are not ported")
        return f"F.linear({', '.join([x, rows, *terms])})"
    if layer.normalize and layer.transpose:
        raise layer.error("normalize with transpose is not ported")
    kind = "NormalizedLinear" if layer.normalize else "nn.Linear"
    if layer.transpose:
        kind = "TransposedLinear"
    options = {} if bias and not layer.transpose else {"bias": bias}
    arguments = argument_list(layer.in_features, layer.num_output, **options)
    return f"{writer.module(layer, kind, arguments)}({x})"


@source_layer("PReLU")
def prelu(writer: SourceWriter, layer: PReLU, x: str) -> str:
    """Write nn.PReLU; its own class for one slope, whose blob has no axes in Caffe."""
    if layer.shared:
        return f"{writer.module(layer, 'SharedPReLU', '')}({x})"
    return f"{writer.module(layer, 'nn.PReLU', str(layer.weight.numel()))}({x})"


@source_layer("BatchNorm")
def batch_norm(writer: SourceWriter, layer: BatchNorm, x: str) -> str:
    """Write Caffe's statistics and count."""
    if layer.use_global_stats is False or writer.axes(layer) < 2:
        raise layer.error(
            "statistics of the batch in TEST, or a bottom of one axis, are not ported"
        )
    arguments = argument_list(layer.channels, eps=layer.eps, fraction=layer.fraction)
    return f"{writer.module(layer, 'BatchNorm', arguments)}({x})"


@source_layer("BN")
def bn(writer: SourceWriter, layer: BN, x: str) -> str:
    """Write slope, bias and statistics in one."""
    arguments = argument_list(layer.weight.numel(), eps=layer.eps)
    return f"{writer.module(layer, 'BN', arguments)}({x})"


@source_layer("Scale")
def scale(writer: SourceWriter, layer: Scale, x: str, *factors: str) -> str:
    """Write the factor as a submodule, or from the second bottom."""
    if layer.min_value is not None:
        raise layer.error("min_value is not ported")
    if factors:
        if layer.bias_term:
            raise layer.error("a factor from a bottom and a bias blob are not ported")
        return f"{x} * {_spread(writer, layer, factors[0])}"
    shape = tuple(layer.weight.shape)
    options = {"bias": True} if layer.bias_term else {}
    arguments = (
        f"{shape!r}, {argument_list(behind=_axes_behind(writer, layer, len(shape)), **options)}"
    )
    return f"{writer.module(layer, 'Scale', arguments)}({x})"


@source_layer("Bias")
def bias(writer: SourceWriter, layer: Bias, x: str, *terms: str) -> str:
    """Write the term as a submodule, or from the second bottom."""
    if terms:
        return f"{x} + {_spread(writer, layer, terms[0])}"
    shape = tuple(layer.bias.shape)
    arguments = f"{shape!r}, behind={_axes_behind(writer, layer, len(shape))}"
    return f"{writer.module(layer, 'Bias', arguments)}({x})"


@source_layer("Embed")
def embed(writer: SourceWriter, layer: Embed, x: str) -> str:
    """Write the table and its bias."""
    arguments = argument_list(layer.input_dim, layer.num_output, bias=layer.bias is not None)
    return f"{writer.module(layer, 'Embed', arguments)}({x})"


@source_layer("Parameter")
def parameter(writer: SourceWriter, layer: Parameter) -> str:
    """Write the blob."""
    return f"{writer.module(layer, 'Parameter', repr(tuple(layer.weight.shape)))}()"


def _spread(writer: SourceWriter, layer: Bias, small: str) -> str:
    behind = _axes_behind(writer, layer, writer.axes(layer, 1))
    return f"{small}[{', '.join(['...', *['None'] * behind])}]" if behind else small


def _axes_behind(writer: SourceWriter, layer: Bias, axes: int) -> int:
    total = writer.axes(layer)
    return total - layer.axis % total - axes if axes else 0
