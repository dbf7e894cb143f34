"""The layer catalogue: a file a type (or family); importing this package registers them all."""

from __future__ import annotations

from importlib import import_module

__all__ = ["LAYER_FILES"]

LAYER_FILES = (
    "accuracy",
    "convolution",
    "data_sources",
    "eltwise",
    "inner_product",
    "input",
    "pooling",
    "prelu",
    "softmax_loss",
    "split",
)

for _file in LAYER_FILES:
    import_module(f"{__name__}.{_file}")
