"""PReLU as nn.PReLU, where it has a slope a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.prelu import PReLU

__all__ = ["prelu"]


@source_layer("PReLU")
def prelu(writer: SourceWriter, layer: PReLU, x: str) -> str:
    """Write nn.PReLU; one slope for all has no axes in Caffe, and nn.PReLU's has one."""
    if layer.shared:
        return writer.call(layer, x)
    return f"{writer.module(layer, 'nn.PReLU', str(layer.weight.numel()))}({x})"
