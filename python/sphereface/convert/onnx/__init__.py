"""ONNX, for onnxruntime and for OpenCV's dnn: what a layer computes as nodes, a file a layer.

The files are named as those of `sphereface.caffe.layers`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from sphereface.convert.onnx.graph import ONNX_LAYERS, OnnxGraph, Value, onnx_layer
from sphereface.convert.onnx.model import OPSET, onnx_model, write_onnx

__all__ = [
    "ONNX_LAYERS",
    "OPSET",
    "OnnxGraph",
    "Value",
    "onnx_layer",
    "onnx_model",
    "write_onnx",
]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
