"""LabelsequenceAccuracy: the share of images whose best path is their labels, all of them.

Source: labelsequence_accuracy_layer.cpp of yalecyu's crnn.caffe. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.ctc import ctc_greedy_decode
from sphereface.caffe.layers.ctc_label_rows import without_blanks
from sphereface.caffe.registry import register_layer

__all__ = ["LabelsequenceAccuracy"]


@register_layer("LabelsequenceAccuracy", param="labelsequence_accuracy_param")
class LabelsequenceAccuracy(Layer):
    """The share of rows of labels that the largest scores of each step collapse to.

    Bottoms: scores (N, T, C), and labels (N, L), of which those that are ``blank_label`` are left
    out, as blanks and repetitions are of the scores. Top: a scalar.
    """

    bottoms = exactly(2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the blank."""
        self.blank = self.options.blank_label

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms; the top is a scalar."""
        shape, label = bottom_shapes
        if len(shape) != 3 or len(label) < 2 or label[0] != shape[0]:
            raise self.error(
                f"bottoms of shapes {shape} and {label}",
                expected="scores (N, T, classes) and labels (N, L)",
            )
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the accuracy."""
        x = x.detach().transpose(0, 1)
        decoded, _ = ctc_greedy_decode(
            x, torch.ones_like(x[..., 0]), blank=self.blank, merge_repeated=True
        )
        found = decoded.t().round().long()
        true, _ = without_blanks(
            label.detach().reshape(len(label), -1).round().long(), self.blank, -1
        )
        width = max(found.shape[1], true.shape[1])
        found, true = (F.pad(rows, (0, width - rows.shape[1]), value=-1) for rows in (found, true))
        return (found == true).all(1).to(x.dtype).mean()
