"""RNN as ONNX nodes; ONNX's own RNN knows no marks of where a sequence starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer
from sphereface.convert.onnx.recurrent import unrolled

if TYPE_CHECKING:
    from sphereface.caffe.layers.rnn import RNN

__all__ = ["rnn"]


@onnx_layer("RNN")
def rnn(graph: OnnxGraph, layer: RNN, x: Value, cont: Value, *others: Value) -> list[str]:
    """Write a Scan over the timesteps, and the outputs of all at once."""
    weight = graph.constant(layer.weight_hidden, "weight_hidden")

    def step(states: Sequence[str], inputs: str, mark: str) -> list[str]:
        hidden = graph.node("Gemm", graph.node("Mul", states[0], mark), weight, transB=1)
        return [graph.node("Tanh", graph.node("Add", inputs, hidden))]

    hidden, tops = unrolled(graph, layer, step, x, cont, *others)
    rows = graph.constant(layer.weight_output, "weight_output")
    y = graph.node("MatMul", hidden, graph.node("Transpose", rows, perm=[1, 0]))
    y = graph.node("Add", y, graph.constant(layer.bias_output, "bias_output"))
    return [graph.node("Tanh", y), *tops]
