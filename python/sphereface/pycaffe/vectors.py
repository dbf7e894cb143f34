"""The lists of pycaffe, by the names that Boost gave C++'s vectors.

Source: the end of python/caffe/_caffe.cpp. Scripts ask for them by ``isinstance`` and ``type``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DtypeVec", "IntVec", "LayerVec", "NetVec", "StringVec"]


class LayerVec(list[Any]):
    """Layers of a net."""


class NetVec(list[Any]):
    """Test nets of a solver."""


class StringVec(list[str]):
    """Names."""


class IntVec(list[int]):
    """Numbers of blobs."""


class DtypeVec(list[float]):
    """Loss weights."""
