"""SphereFace: the A-Softmax margin layer and legacy Caffe face models on today's PyTorch.

Importing the package is cheap: torch is loaded when a name that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphereface import caffe as caffe
    from sphereface import checkpoints as checkpoints
    from sphereface import convert as convert
    from sphereface import data as data
    from sphereface import distributed as distributed
    from sphereface import evaluation as evaluation
    from sphereface import faces as faces
    from sphereface import images as images
    from sphereface import inference as inference
    from sphereface import inspection as inspection
    from sphereface import nn as nn
    from sphereface import numpy_ops as numpy_ops
    from sphereface import ops as ops
    from sphereface import proto as proto
    from sphereface import pruning as pruning
    from sphereface import pycaffe as pycaffe
    from sphereface import recognition as recognition
    from sphereface import solver as solver
    from sphereface import testing as testing
    from sphereface import weights as weights
    from sphereface.allocator import tune_allocator as tune_allocator
    from sphereface.errors import SphereFaceError as SphereFaceError
    from sphereface.ops.margin_inner_product import margin_inner_product as margin_inner_product
    from sphereface.ops.margin_softmax import margin_softmax_loss as margin_softmax_loss

    __version__: str

__all__ = [
    "SphereFaceError",
    "caffe",
    "checkpoints",
    "convert",
    "data",
    "distributed",
    "evaluation",
    "faces",
    "images",
    "inference",
    "inspection",
    "margin_inner_product",
    "margin_softmax_loss",
    "nn",
    "numpy_ops",
    "ops",
    "proto",
    "pruning",
    "pycaffe",
    "recognition",
    "solver",
    "testing",
    "tune_allocator",
    "weights",
]

_HOMES = {
    "SphereFaceError": "sphereface.errors",
    "margin_inner_product": "sphereface.ops",
    "margin_softmax_loss": "sphereface.ops",
    "tune_allocator": "sphereface.allocator",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # reads files, and loads more than the rest of the package

        return metadata.version("sphereface")
    if name not in __all__:
        raise AttributeError(f"module 'sphereface' has no attribute {name!r}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        value = importlib.import_module(f"sphereface.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
