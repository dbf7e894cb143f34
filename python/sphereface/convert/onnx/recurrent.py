"""What RNN and LSTM share as ONNX nodes: the input of the recurrence, and its loop.

Without ``expose_hidden`` a model starts every run from zeros, where the layer carries its state
from one forward to the next. The loop is a Scan, which onnxruntime has and OpenCV's dnn has not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sphereface.convert.onnx.graph import OnnxGraph, Value

if TYPE_CHECKING:
    from sphereface.caffe.layers.recurrent import Recurrent

__all__ = ["unrolled"]


def unrolled(
    graph: OnnxGraph,
    layer: Recurrent,
    step: Callable[[Sequence[str], str, str], Sequence[str]],
    x: Value,
    cont: Value,
    *others: Value,
) -> tuple[str, list[str]]:
    """Write the products of the inputs and the loop.

    Parameters
    ----------
    step : callable
        Adds the nodes of a timestep: takes the names of the states, h first, what the gates get
        from outside (N, gates D) and the mark (N, 1), and returns the names of the next states.
    x, cont, *others : Value
        The layer's bottoms.

    Returns
    -------
    hidden : str
        h of every timestep.
    tops : list of str
        The last states, if the layer exposes them.
    """
    features = graph.integers([0, 0, layer.in_features])
    weight = graph.node("Transpose", graph.constant(layer.weight, "weight"), perm=[1, 0])
    inputs = graph.node("MatMul", graph.node("Reshape", x, features), weight)
    inputs = graph.node("Add", inputs, graph.constant(layer.bias, "bias"))
    if layer.has_static:
        static = graph.node("Flatten", others[0], axis=1)
        weight = graph.constant(layer.weight_static, "weight_static")
        inputs = graph.node("Add", inputs, graph.node("Gemm", static, weight, transB=1))
    axis = graph.integers([0])
    states = [graph.node("Squeeze", state, axis) for state in others[layer.has_static :]]
    if not states:
        zeros = np.zeros((graph.fixed(x.shape[1], layer), layer.num_output))
        states = [graph.constant(zeros) for _ in layer.states]
    marks = graph.node("Unsqueeze", cont, graph.integers([2]))

    def body(before: Sequence[str], elements: Sequence[str]) -> tuple[Sequence[str], str]:
        after = step(before, *elements)
        return after, after[0]

    last, hidden = graph.scan(body, states, [inputs, marks])
    if not layer.expose_hidden:
        return hidden, []
    return hidden, [graph.node("Unsqueeze", state, axis) for state in last]
