"""The base classes of losses: their blobs, labels and normalisation.

Source: Caffe's loss_layer.cpp, and the get_normalizer of softmax_loss_layer.cpp and its kin. What
differs: labels are checked (`sphereface.caffe.indices`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from torch import Tensor

from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape

__all__ = ["DistanceLoss", "LossLayer", "ScoreLoss"]


class LossLayer(Layer):
    """A scalar top with loss weight 1, which the file may leave out.

    Attributes
    ----------
    ignore_label : int or None
        From ``loss_param``, for the losses that know it.
    normalization : {"FULL", "VALID", "BATCH_SIZE", "NONE", "PRE_FIXED"}
        From ``loss_param``, or what its older ``normalize`` means. PRE_FIXED (R-FCN) divides by its
        ``pre_fixed_normalizer``.
    """

    bottoms = exactly(2)
    auto_tops = True
    default_loss_weight = 1.0
    #: Where the file says nothing.
    default_normalization: ClassVar[str] = "VALID"

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read ``loss_param``."""
        loss = self.layer_param.loss_param
        self.ignore_label = loss.ignore_label if loss.HasField("ignore_label") else None
        self.pre_fixed_normalizer = loss.pre_fixed_normalizer
        if loss.HasField("normalization"):
            modes = loss.DESCRIPTOR.enum_types_by_name["NormalizationMode"]
            self.normalization = modes.values_by_number[loss.normalization].name
        elif loss.HasField("normalize"):
            self.normalization = "VALID" if loss.normalize else "BATCH_SIZE"
        else:
            self.normalization = self.default_normalization

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the first two bottoms have one batch size; the top is a scalar."""
        first, second = bottom_shapes[:2]
        if not first or first[:1] != second[:1]:
            raise self.error(
                f"bottoms of shapes {first} and {second}", expected="the same first dimension"
            )
        return [()]

    def normalizer(self, outer: int, count: int, valid: Tensor | None) -> Tensor | float:
        """Return what `normalization` divides by, at least 1.

        Parameters
        ----------
        outer : int
            For BATCH_SIZE.
        count : int
            All labels, for FULL.
        valid : Tensor of bool, optional
            Which labels are not ignored, for VALID; None for all of them.
        """
        if self.normalization == "VALID" and valid is not None:
            return valid.sum().clamp(min=1)
        if self.normalization == "NONE":
            return 1
        if self.normalization == "PRE_FIXED":
            return max(self.pre_fixed_normalizer, 1.0)
        return max(outer if self.normalization == "BATCH_SIZE" else count, 1)


class ScoreLoss(LossLayer):
    """A loss of rows of scores: bottoms (N, classes...), and labels, one a row."""

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels."""
        label_shape = bottom_shapes[1]
        if prod(label_shape[1:]) != 1:
            raise self.error(f"labels of shape {label_shape}", expected="one label a sample")
        return super().reshape(bottom_shapes)

    def rows_and_labels(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores as (N, classes) and the labels, checked, as (N, 1)."""
        rows = x.reshape(x.shape[0], prod(x.shape[1:]))
        return rows, class_labels(self, label, rows.shape[1])[:, None]


class DistanceLoss(ScoreLoss):
    """A loss of distances to every class; a second top holds two means of them, shape (2,)."""

    tops = Arity(1, 2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms; return a scalar's shape, and (2,)."""
        return [*super().reshape(bottom_shapes), (2,)][: self.top_count]
