"""Gather: what several processes computed, in one batch; of one process, what it computed.

Source: gather_layer.cpp of yjxiong's Caffe fork (temporal segment networks) and of PSPNet's, which
joins the batches of its MPI processes and shares the blobs where there is one. What differs: a net
here is one process's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Gather", "gather"]


def gather(*bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Return the bottoms."""
    return bottoms[0] if len(bottoms) == 1 else bottoms


@register_layer("Gather")
class Gather(Layer):
    """Each top is its bottom."""

    bottoms = at_least(1)
    tops = at_least(1)
    equal_counts = True
    function = staticmethod(gather)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the bottoms' shapes."""
        return list(bottom_shapes)
