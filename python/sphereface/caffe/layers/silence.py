"""Silence: takes blobs that nothing else reads, so that they are no outputs of the net.

Source: Caffe's silence_layer.cpp. What differs: bottoms get no gradient instead of a zero one.
"""

from __future__ import annotations

from torch import Tensor

from sphereface.caffe.graph import at_least, exactly
from sphereface.caffe.layer import Layer
from sphereface.caffe.registry import register_layer

__all__ = ["Silence", "silence"]


def silence(*bottoms: Tensor) -> tuple[Tensor, ...]:
    """Return nothing."""
    return ()


@register_layer("Silence")
class Silence(Layer):
    """Any bottoms, no top."""

    bottoms = at_least(1)
    tops = exactly(0)
    function = staticmethod(silence)
