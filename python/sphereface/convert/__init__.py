"""Nets to and from other formats: torch, safetensors, ONNX, TorchExport, source code."""

from sphereface.convert.formats import load_net, save_net
from sphereface.convert.heads import load_head
from sphereface.convert.port import pytorch_source

__all__ = ["load_head", "load_net", "pytorch_source", "save_net"]
