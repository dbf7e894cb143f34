"""InnerProduct as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.caffe.layers.inner_product import normalized_rows
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.inner_product import InnerProduct

__all__ = ["inner_product"]


@onnx_layer("InnerProduct", "FcRistretto")
def inner_product(graph: OnnxGraph, layer: InnerProduct, x: Value, *weights: Value) -> str:
    """Write Flatten and Gemm; from a later axis on, Reshape and MatMul."""
    name = x.name
    if len(x.shape) > layer.axis + 1:
        if layer.axis == 1:
            name = graph.node("Flatten", x, axis=1)
        else:
            name = graph.node("Reshape", x, graph.integers([0] * layer.axis + [-1]))
    if weights:
        rows = graph.node("Flatten", weights[0], axis=1)
        terms = [weights[1].name] if len(weights) == 2 else []
    else:
        weight = layer.weight
        if layer.normalize:
            weight = normalized_rows(weight, 0 if layer.transpose else 1, in_place=False)
        rows, terms = graph.constant(weight, "weight"), []
    if layer.bias is not None:
        terms = [graph.constant(layer.bias, "bias")]
    transposed = not layer.transpose
    if layer.axis == 1:
        return graph.node("Gemm", name, rows, *terms, transB=int(transposed))
    if transposed:
        rows = graph.node("Transpose", rows, perm=[1, 0])
    y = graph.node("MatMul", name, rows)
    return graph.node("Add", y, *terms) if terms else y
