"""BatchReindex: the batch in another order, with samples left out or repeated.

Source: Caffe's batch_reindex_layer.cpp. As there, an index out of range is an error of this
layer on the CPU only.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.indices import indices_below
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["BatchReindex", "batch_reindex"]


def batch_reindex(x: Tensor, indices: Tensor) -> Tensor:
    """Return the samples of those indices."""
    return x.index_select(0, indices.long())


@register_layer("BatchReindex")
class BatchReindex(Layer):
    """Sample i of the top is sample index[i] of the bottom; gradients of repeats add up."""

    bottoms = exactly(2)
    function = staticmethod(batch_reindex)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the bottom's shape with one sample for each index."""
        shape, indices = bottom_shapes
        if len(indices) != 1 or not shape:
            raise self.error(
                f"bottoms of shapes {shape} and {indices}",
                expected="samples on the first axis, and indices of one axis",
            )
        return [(*indices, *shape[1:])]

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        """Return the chosen samples."""
        return self.compute(x, indices_below(self, indices, x.shape[0]))
