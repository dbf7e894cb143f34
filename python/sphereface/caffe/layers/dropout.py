"""Dropout: in TRAIN each value is dropped with probability dropout_ratio.

Source: Caffe's dropout_layer.cpp (Srivastava et al., 2014). What is kept is scaled by 1 / (1 -
dropout_ratio), so TEST does nothing. ``scale_train: false`` (SSD's fork) scales by 1 -
dropout_ratio in TEST instead, ``sample_weights_test`` (Bayesian SegNet) drops in TEST too. What
differs: the random stream is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Dropout", "dropout"]


def dropout(
    x: Tensor, *, dropout_ratio: float, scale_train: bool, sample_test: bool, training: bool
) -> Tensor:
    """Return x with values dropped (in training), or as it is; scaled in either, or in neither."""
    drops = training or sample_test
    y = F.dropout(x, dropout_ratio, drops)
    return y if scale_train else y * (1 - dropout_ratio)


@register_layer("Dropout", param="dropout_param")
class Dropout(Layer):
    """x mask / (1 - dropout_ratio) in TRAIN, x in TEST.

    With ``scale_train: false`` x mask in TRAIN, x (1 - dropout_ratio) in TEST. With
    ``sample_weights_test`` TEST is as TRAIN.
    """

    function = staticmethod(dropout)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the ratio."""
        self.dropout_ratio = self.options.dropout_ratio
        self.scale_train: bool = self.options.scale_train
        self.sample_test: bool = self.options.sample_weights_test
        if not 0 <= self.dropout_ratio < 1:
            raise self.error(
                f"dropout_ratio {self.dropout_ratio:g}", expected="at least 0 and less than 1"
            )
