"""Accuracy: the share of labels among the top_k scores.

Source: Caffe's accuracy_layer.cpp as in the SphereFace fork: of equal scores the one with the
larger index ranks higher. Not differentiable. ``min_is_better`` (distances instead of scores) is
NormFace's. What differs: a NaN ranks above every number and is never right, where Caffe's
partial_sort gives ranks by chance, mostly the first to the last class.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.indices import counted_labels
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Accuracy"]


@register_layer("Accuracy", param="accuracy_param")
class Accuracy(Layer):
    """Accuracy over all labels that are not ``ignore_label``; second top: one for each class."""

    bottoms = exactly(2)
    tops = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read top_k, axis and ignore_label."""
        options = self.options
        self.label_axis = self.canonical_axis(options.axis, bottom_shapes[0])
        self.top_k = options.top_k
        self.ignore_label = options.ignore_label if options.HasField("ignore_label") else None
        self.min_is_better = options.min_is_better

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check top_k and the number of labels."""
        shape, label_shape = bottom_shapes
        classes = shape[self.label_axis]
        rows = prod(shape[: self.label_axis] + shape[self.label_axis + 1 :])
        if rows != prod(label_shape):
            raise self.error(
                f"{prod(label_shape)} labels for predictions of shape {shape}",
                expected=f"{rows} labels",
            )
        if not 1 <= self.top_k <= classes:
            raise self.error(f"top_k {self.top_k}", expected=f"1 to {classes}, the classes")
        return [(), (classes,)][: self.top_count]

    @torch.no_grad()
    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the accuracy, and that of each class where the file asks for it."""
        if self.min_is_better:
            x = -x
        scores = x.movedim(self.label_axis, -1).flatten(0, -2)  # (outer * inner, classes)
        labels, valid = counted_labels(self, label, scores.shape[1], self.ignore_label)
        if valid is None:
            valid = torch.ones_like(labels, dtype=torch.bool)
        column = labels[:, None]
        own = scores.gather(1, column)
        later = torch.arange(scores.shape[1], device=x.device) > column
        better = (scores > own) | ((scores == own) & later) | scores.isnan()
        correct = ((better.sum(1) < self.top_k) & ~own[:, 0].isnan() & valid).to(x.dtype)
        accuracy = correct.sum() / valid.sum()
        if self.top_count == 1:
            return accuracy
        zeros = torch.zeros(scores.shape[1], dtype=x.dtype, device=x.device)
        counts = zeros.index_add(0, labels, valid.to(x.dtype))
        right = zeros.index_add(0, labels, correct)
        return accuracy, torch.where(counts > 0, right / counts, 0)
