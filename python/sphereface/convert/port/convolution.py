"""Convolution and DepthwiseConvolution as modules of torch.nn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.port.text import argument_list
from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.convolution import Convolution

__all__ = ["convolution", "torch_module"]


@source_layer(
    "Convolution",
    "Convolution3D",
    "ConvolutionDepthwise",
    "ConvolutionRistretto",
    "HoleConvolution",
    "DepthwiseConvolution",
)
def convolution(writer: SourceWriter, layer: Convolution, *bottoms: str) -> str:
    """Write nn.Conv1d to 3d."""
    return torch_module("Conv", writer, layer, *bottoms)


def torch_module(kind: str, writer: SourceWriter, layer: Convolution, *bottoms: str) -> str:
    """Write nn.Conv2d and its like, with the options that are not default."""
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
    arguments = argument_list(layer.channels, layer.num_output, layer.kernel, **options)
    call = writer.module(layer, f"nn.{kind}{len(layer.kernel)}d", arguments)
    return ", ".join(f"{call}({bottom})" for bottom in bottoms)
