"""Pooling as a function of torch, where that has Caffe's windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.pooling import wide_pad, windows_outside
from sphereface.convert.port.text import argument_list
from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.pooling import Pooling

__all__ = ["pooling"]


@source_layer("Pooling")
def pooling(writer: SourceWriter, layer: Pooling, x: str) -> str:
    """Write F.max_pool2d or F.avg_pool2d that rounds as the layer, or amax or mean of all."""
    if layer.method == "STOCHASTIC" or layer.top_count == 2:
        return writer.call(layer, x)
    maximum, kernel, stride, pad = layer.method == "MAX", layer.kernel, layer.stride, layer.pad
    if kernel is None:
        return f"{x}.{'amax' if maximum else 'mean'}((2, 3), keepdim=True)"
    if wide_pad(kernel, pad) or windows_outside(kernel, stride, pad, layer.ceil_mode):
        return writer.call(layer, x)
    window = argument_list(kernel, stride, *[pad] * (max(pad) > 0))
    rounding = ", ceil_mode=True" if layer.ceil_mode else ""
    return f"F.{'max' if maximum else 'avg'}_pool2d({x}, {window}{rounding})"
