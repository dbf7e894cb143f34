"""Eltwise as operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.port.text import number
from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.eltwise import Eltwise

__all__ = ["eltwise"]


@source_layer("Eltwise")
def eltwise(writer: SourceWriter, layer: Eltwise, *bottoms: str) -> str:
    """Write sums and products."""
    if layer.operation == "MAX":
        return writer.call(layer, *bottoms)
    if layer.operation == "PROD":
        return " * ".join(bottoms)
    coeff = layer.coeff or (1,) * len(bottoms)
    return " + ".join(
        x if c == 1 else f"{number(c)} * {x}" for c, x in zip(coeff, bottoms, strict=True)
    )
