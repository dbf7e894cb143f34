"""ChannelScale as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.channel_scale import ChannelScale

__all__ = ["channel_scale"]


@onnx_layer("ChannelScale")
def channel_scale(graph: OnnxGraph, layer: ChannelScale, x: Value, factor: Value) -> str:
    """Write Mul, the factors reshaped to one channel."""
    if not layer.scales_value:
        return x.name
    wanted = (x.shape[0], 1, *x.shape[2:])
    if factor.shape == wanted:
        return graph.node("Mul", x, factor)
    sizes = [size for size in wanted[1:] if size is not None]
    if len(sizes) < len(wanted) - 1:
        raise layer.error(
            f"factors of shape {factor.shape} over images of free size have no ONNX form",
            expected="factors with one channel",
        )
    return graph.node("Mul", x, graph.node("Reshape", factor, graph.integers([0, *sizes])))
