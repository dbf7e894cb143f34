"""Dropout: in TRAIN each value is dropped with probability dropout_ratio.

Source: Caffe's dropout_layer.cpp (Srivastava et al., 2014). What is kept is scaled by
1 / (1 - dropout_ratio), so TEST does nothing. What differs: the random stream is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Dropout", "dropout"]


def dropout(x: Tensor, *, dropout_ratio: float, training: bool) -> Tensor:
    """Return x with values dropped (in training) or as it is."""
    return F.dropout(x, dropout_ratio, training)


@register_layer("Dropout", param="dropout_param")
class Dropout(Layer):
    """x mask / (1 - dropout_ratio) in TRAIN, x in TEST."""

    function = staticmethod(dropout)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the ratio."""
        self.dropout_ratio = self.options.dropout_ratio
        if not 0 <= self.dropout_ratio < 1:
            raise self.error(
                f"dropout_ratio {self.dropout_ratio:g}", expected="at least 0 and less than 1"
            )
