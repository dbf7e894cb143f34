"""Dropout as a function of torch, in its plain form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.port.text import number
from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.dropout import Dropout

__all__ = ["dropout"]


@source_layer("Dropout")
def dropout(writer: SourceWriter, layer: Dropout, x: str) -> str:
    """Write F.dropout, where TEST does nothing."""
    if layer.sample_test or not layer.scale_train:
        return writer.call(layer, x)
    return f"F.dropout({x}, {number(layer.dropout_ratio)}, self.training)"
