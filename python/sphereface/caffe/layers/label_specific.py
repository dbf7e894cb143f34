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

__all__ = ["LabelSpecificAdd", "LabelSpecificRescale"]


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
        if not self.training:
            return x
        scores = x.flatten(1)  # (M, classes)
        column = class_labels(self, label, scores.shape[1])[:, None]
        return self.change(scores, column).reshape(x.shape)

    def change(self, scores: Tensor, column: Tensor) -> Tensor:
        """Return the new scores; `column` (M, 1) holds the labels."""
        raise NotImplementedError


@register_layer("LabelSpecificAdd", param="label_specific_add_param")
class LabelSpecificAdd(_LabelSpecific):
    """``bias`` added to the label's score: the margin of AM-Softmax is a negative one."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the bias."""
        self.added: float = self.options.bias

    def change(self, scores: Tensor, column: Tensor) -> Tensor:
        """Add the bias."""
        bias = torch.full_like(column, self.added, dtype=scores.dtype)
        return scores.scatter_add(1, column, bias)


@register_layer("LabelSpecificRescale", param="label_specific_rescale_param")
class LabelSpecificRescale(_LabelSpecific):
    """The label's score times ``positive_weight``, the others times ``negative_weight``."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the weights."""
        self.positive_weight = self.options.positive_weight
        self.negative_weight = self.options.negative_weight

    def change(self, scores: Tensor, column: Tensor) -> Tensor:
        """Scale."""
        own = scores.gather(1, column) * self.positive_weight
        return (scores * self.negative_weight).scatter(1, column, own)
