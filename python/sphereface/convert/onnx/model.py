"""The layers of a net as an ONNX model.

Source: the ONNX operators of opset 17. Every blob keeps its name, and every node starts with its
layer's. What differs from torch.onnx.export: no tracing, so no onnxscript, and average pooling is
written so that OpenCV 5, which divides the windows beyond the edge otherwise, has Caffe's numbers
too. The package onnx is an extra.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import sphereface
from sphereface.caffe import Net
from sphereface.convert.dynamic import dynamic_shapes
from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_package
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path

__all__ = ["OPSET", "onnx_model", "write_onnx"]

OPSET = 17
"""Known to OpenCV 4.7 and later, onnxruntime 1.12 and later."""

_IR_VERSION = 8
_MAX_BYTES = 2**31 - 1
_AXES = {0: "N", 2: "H", 3: "W"}


def write_onnx(net: Net, path: str | os.PathLike[str], *, images: bool = False) -> None:
    """Write `net` as an ONNX model.

    Parameters
    ----------
    net : Net
        In phase TEST, with its weights.
    path : path-like
        File to write; only a finished model replaces it.
    images : bool
        Accept other image sizes than those of the prototxt. The batch size is free anyway, unless a
        layer fixes it.

    Raises
    ------
    SphereFaceError
        A layer has no ONNX form or, with `images`, cannot take other sizes; or the model exceeds
        2 GiB.
    """
    model = onnx_model(net, images=images)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def onnx_model(net: Net, *, images: bool = False) -> Any:
    """Return the ``onnx.ModelProto`` of `net`; see `write_onnx`."""
    onnx = onnx_package()
    size = sum(4 * blob.numel() for layer in net.layers for blob in layer.blobs)
    if size > _MAX_BYTES:
        raise SphereFaceError(
            f'net "{net.name}" has {size:,} bytes of parameters',
            expected="at most 2 GiB, which protobuf can read",
            fix="export it as .pt2",
        )
    shapes = dynamic_shapes(net, images)
    graph = OnnxGraph(net)
    values = {slot: Value(name, shapes[slot]) for name, slot in net.graph.inputs.items()}
    for node, layer, key in zip(net.graph.nodes, net.layers, net.keys, strict=True):
        if not layer.is_input:
            bottoms = [values[slot] for slot in node.bottoms]
            tops = graph.add_layer(layer, key, bottoms, node.tops)
            values.update(
                (s, Value(top, shapes[s])) for s, top in zip(node.tops, tops, strict=True)
            )
    inputs = [_info(onnx, values[s], named=True) for s in net.graph.inputs.values()]
    outputs = [_info(onnx, values[s]) for s in net.graph.outputs.values()]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, graph.initializers),
        producer_name="sphereface",
        producer_version=sphereface.__version__,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model


def _info(onnx: Any, value: Value, *, named: bool = False) -> Any:
    dims: Sequence[Any] = value.shape
    if named:
        dims = [_AXES.get(a, f"{value.name}_{a}") if s is None else s for a, s in enumerate(dims)]
    return onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, dims)
