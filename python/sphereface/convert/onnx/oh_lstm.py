"""Lstm as ONNX's LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.oh_lstm import Lstm

__all__ = ["lstm"]


@onnx_layer("Lstm")
def lstm(graph: OnnxGraph, layer: Lstm, x: Value) -> str:
    """Write the recurrence; ONNX has the gates as input, output, forget, candidate."""
    size = layer.weight_hidden.shape[1]

    def gates(blob: torch.Tensor) -> torch.Tensor:
        i, f, o, g = blob.detach().split(size)
        return torch.cat([i, o, f, g])[None]

    bias = gates(layer.bias)
    steps = x.name
    if layer.batch:
        shape = graph.integers([-1, layer.batch, layer.weight.shape[1]])
        steps = graph.node("Reshape", x, shape)
    found = graph.node(
        "LSTM",
        steps,
        graph.constant(gates(layer.weight)),
        graph.constant(gates(layer.weight_hidden)),
        graph.constant(torch.cat([bias, torch.zeros_like(bias)], 1)),
        hidden_size=size,
    )  # (T, directions, N, D)
    return graph.node(
        "Reshape", found, graph.integers([-1, size] if layer.batch else [0, -1, size])
    )
