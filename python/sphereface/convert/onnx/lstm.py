"""LSTM and LSTMUnit as ONNX nodes; ONNX's own LSTM knows no marks of where a sequence starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer
from sphereface.convert.onnx.recurrent import unrolled

if TYPE_CHECKING:
    from sphereface.caffe.layers.lstm import LSTM, LSTMUnit

__all__ = ["lstm", "lstm_unit"]


@onnx_layer("LSTM")
def lstm(graph: OnnxGraph, layer: LSTM, x: Value, cont: Value, *others: Value) -> list[str]:
    """Write a Scan over the timesteps."""
    weight = graph.constant(layer.weight_hidden, "weight_hidden")

    def step(states: Sequence[str], inputs: str, mark: str) -> list[str]:
        h, c = states
        hidden = graph.node("Gemm", graph.node("Mul", h, mark), weight, transB=1)
        c, h = _unit(graph, c, graph.node("Add", inputs, hidden), mark)
        return [h, c]

    hidden, tops = unrolled(graph, layer, step, x, cont, *others)
    return [hidden, *tops]


@onnx_layer("LSTMUnit")
def lstm_unit(graph: OnnxGraph, layer: LSTMUnit, c: Value, gates: Value, cont: Value) -> list[str]:
    """Write one timestep."""
    mark = graph.node("Unsqueeze", cont, graph.integers([2]))
    return list(_unit(graph, c.name, gates.name, mark))


def _unit(graph: OnnxGraph, c: str, gates: str, mark: str) -> tuple[str, str]:
    """Return cell and hidden state after the timestep."""
    i, f, o, g = graph.split_node("Split", gates, outputs=4, axis=-1)
    kept = graph.node("Mul", graph.node("Mul", mark, graph.node("Sigmoid", f)), c)
    new = graph.node("Mul", graph.node("Sigmoid", i), graph.node("Tanh", g))
    c = graph.node("Add", kept, new)
    return c, graph.node("Mul", graph.node("Sigmoid", o), graph.node("Tanh", c))
