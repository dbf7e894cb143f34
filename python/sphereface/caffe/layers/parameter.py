"""Parameter: a parameter blob as a top.

Source: Caffe's parameter_layer.hpp; ``blob_filler`` is NormFace's. What differs: nothing; without a
filler the blob starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Parameter", "parameter"]


def parameter(*, weight: Tensor) -> Tensor:
    """Return the blob."""
    return weight


@register_layer("Parameter", param="parameter_param")
class Parameter(Layer):
    """The learnable blob ``weight`` of ``parameter_param.shape``, filled by its ``blob_filler``."""

    bottoms = exactly(0)
    function = staticmethod(parameter)
    weight: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the blob."""
        filler = self.options.blob_filler if self.options.HasField("blob_filler") else None
        self.add_blob("weight", tuple(self.options.shape.dim), filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the blob's shape."""
        return [tuple(self.weight.shape)]
