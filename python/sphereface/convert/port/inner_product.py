"""InnerProduct as nn.Linear, where it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.port.text import argument_list
from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.inner_product import InnerProduct

__all__ = ["inner_product"]


@source_layer("InnerProduct", "FcRistretto")
def inner_product(writer: SourceWriter, layer: InnerProduct, x: str, *weights: str) -> str:
    """Write nn.Linear of the flattened bottom."""
    if weights or layer.normalize or layer.transpose:
        return writer.call(layer, x, *weights)
    if writer.axes(layer) > layer.axis + 1:
        x = f"{x}.flatten({layer.axis})" if layer.axis else f"{x}.flatten()"
    options = {} if layer.bias is not None else {"bias": False}
    arguments = argument_list(layer.in_features, layer.num_output, **options)
    return f"{writer.module(layer, 'nn.Linear', arguments)}({x})"
