"""Embed: a row of a table for each index, plus a bias.

Source: Caffe's embed_layer.cpp. What differs: indices are checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.indices import indices_below
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Embed", "embed"]


def embed(x: Tensor, *, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the rows of the indices in x, plus the bias."""
    rows = F.embedding(x.long(), weight)
    return rows if bias is None else rows + bias


@register_layer("Embed", param="embed_param")
class Embed(Layer):
    """weight[x] + bias, of the bottom's shape with num_output appended.

    Bottom: indices 0 to input_dim - 1. Blobs: ``weight`` (input_dim, num_output), ``bias``
    (num_output,) unless ``bias_term: false``.
    """

    function = staticmethod(embed)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create weight and bias."""
        options = self.options
        self.input_dim, self.num_output = options.input_dim, options.num_output
        for name in ("input_dim", "num_output"):
            if getattr(self, name) < 1:
                raise self.error(f"{name} {getattr(self, name)}", expected="at least 1")
        self.add_blob("weight", (self.input_dim, self.num_output), options.weight_filler)
        if options.bias_term:
            self.add_blob("bias", (self.num_output,), options.bias_filler)
        else:
            self.bias = None

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the bottom's shape with num_output appended."""
        return [(*bottom_shapes[0], self.num_output)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows of the indices in x."""
        return self.compute(indices_below(self, x, self.input_dim))
