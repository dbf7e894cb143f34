"""LabelSpecificAdd and LabelSpecificRescale: the score of the label changed in training.

Source: label_specific_add.cpp and label_specific_rescale.cpp of NormFace's and AM-Softmax's Caffe
fork. What differs: later versions of the fork leave a label's score alone where adding would make
it negative, and change their numbers over time; that is not in the files' options here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = [
    "LabelSpecificAdd",
    "LabelSpecificRescale",
    "label_specific_add",
    "label_specific_rescale",
]


def label_specific_add(x: Tensor, label: Tensor, *, added: float, training: bool) -> Tensor:
    """Return the scores, in training with `added` to each label's."""
    if not training:
        return x
    scores, column = x.flatten(1), label.long()[:, None]
    bias = torch.full_like(column, added, dtype=scores.dtype)
    return scores.scatter_add(1, column, bias).reshape(x.shape)


def label_specific_rescale(
    x: Tensor, label: Tensor, *, positive_weight: float, negative_weight: float, training: bool
) -> Tensor:
    """Return the scores, in training with the label's and the others' multiplied."""
    if not training:
        return x
    scores, column = x.flatten(1), label.long()[:, None]
    own = scores.gather(1, column) * positive_weight
    return (scores * negative_weight).scatter(1, column, own).reshape(x.shape)


class _LabelSpecific(Layer):
    """Bottoms: scores (M, classes...); labels, one a row. TEST passes the scores on."""

    bottoms = exactly(2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels and return the scores' shape."""
        shape, label_shape = bottom_shapes
        if not shape or prod(label_shape) != shape[0]:
            raise self.error(
                f"{prod(label_shape)} labels for scores of shape {shape}", expected="one a row"
            )
        return [shape]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the scores, in TRAIN with the labels' changed."""
        if self.training:
            label = class_labels(self, label, prod(x.shape[1:]))
        return self.compute(x, label)


@register_layer("LabelSpecificAdd", param="label_specific_add_param")
class LabelSpecificAdd(_LabelSpecific):
    """``bias`` added to the label's score: the margin of AM-Softmax is a negative one."""

    function = staticmethod(label_specific_add)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the bias."""
        self.added: float = self.options.bias


@register_layer("LabelSpecificRescale", param="label_specific_rescale_param")
class LabelSpecificRescale(_LabelSpecific):
    """The label's score times ``positive_weight``, the others times ``negative_weight``."""

    function = staticmethod(label_specific_rescale)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the weights."""
        self.positive_weight = self.options.positive_weight
        self.negative_weight = self.options.negative_weight
