"""Eltwise as ONNX nodes."""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.eltwise import Eltwise

__all__ = ["eltwise"]

_OPERATORS = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}


@onnx_layer("Eltwise")
def eltwise(graph: OnnxGraph, layer: Eltwise, *bottoms: Value) -> str:
    """Write Mul, Add or Max of all bottoms, multiplied by their coefficients."""
    names = [bottom.name for bottom in bottoms]
    if layer.coeff:
        names = [
            name if c == 1 else graph.node("Mul", name, graph.constant(c))
            for name, c in zip(names, layer.coeff, strict=True)
        ]
    return reduce(partial(graph.node, _OPERATORS[layer.operation]), names)
