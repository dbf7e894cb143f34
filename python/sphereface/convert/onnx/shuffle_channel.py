"""ShuffleChannel as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.shuffle_channel import ShuffleChannel

__all__ = ["shuffle_channels"]


@onnx_layer("ShuffleChannel")
def shuffle_channels(graph: OnnxGraph, layer: ShuffleChannel, x: Value) -> str:
    """Write Gather of the channels in their new order."""
    channels = graph.fixed(x.shape[1], layer)
    per_group = channels // layer.group
    order = [g * per_group + i for i in range(per_group) for g in range(layer.group)]
    return graph.node("Gather", x, graph.integers(order), axis=1)
