"""Layers with one row of weights a class: their sizes, their checks and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape

__all__ = ["ClassWeights"]


class ClassWeights(Layer):
    """Base of layers on embeddings and labels.

    Bottoms: x, flattened from `axis` on to K features; labels, one for each of its M rows. Blob:
    ``weight`` (N, K) for the N = num_output classes.
    """

    bottoms = exactly(2)
    #: Option that fills the weight.
    filler: ClassVar[str] = "weight_filler"

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the weight."""
        self.axis = self.canonical_axis(self.options.axis, bottom_shapes[0])
        self.in_features = prod(bottom_shapes[0][self.axis :])
        self.num_output = self.options.num_output
        if self.num_output < 1:
            raise self.error(f"num_output {self.num_output}", expected="at least 1")
        shape = (self.num_output, self.in_features)
        self.add_blob("weight", shape, getattr(self.options, self.filler))

    def check_bottoms(self, bottom_shapes: Sequence[Shape]) -> None:
        """Raise an error unless x has K features and every row has a label."""
        shape, label_shape = bottom_shapes
        rows, features = prod(shape[: self.axis]), prod(shape[self.axis :])
        if features != self.in_features:
            raise self.error(
                f"bottom of shape {shape} has {features} values from axis {self.axis} on",
                expected=f"{self.in_features}, for which the weight was made",
            )
        if prod(label_shape) != rows:
            raise self.error(
                f"{prod(label_shape)} labels (shape {label_shape})",
                expected=f"{rows}, one a row of the bottom of shape {shape}",
            )

    def rows(self, x: Tensor) -> Tensor:
        """Return x as (M, K)."""
        return x.reshape(-1, self.in_features)

    def labels(self, label: Tensor) -> Tensor:
        """Return the labels as int64, checked."""
        return class_labels(self, label, self.num_output)
