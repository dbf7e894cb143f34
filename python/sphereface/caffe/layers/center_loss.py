"""CenterLoss: pulls embeddings to the centre of their class, which follows them.

Source: Wen et al., "A Discriminative Feature Learning Approach", ECCV 2016, and center_loss_layer
of its Caffe fork. What differs: labels are checked.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.class_weights import ClassWeights
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.row_gradient import add_row_gradient
from sphereface.ops.center_loss import center_loss

__all__ = ["CenterLoss"]


@register_layer("CenterLoss", param="center_loss_param")
class CenterLoss(ClassWeights):
    """Loss ``sum_i |x_i - c_(label_i)|^2 / (2 M)``, a scalar; the centres c are the weight's rows.

    The diff of centre c_j is ``sum (c_j - x_i) / (1 + count)`` over the rows i of class j, count of
    them, whatever the loss_weight: the centres' rate is their lr_mult.
    """

    auto_tops = True
    default_loss_weight = 1.0
    unscaled_gradient = True
    filler = "center_filler"

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return a scalar's shape."""
        self.check_bottoms(bottom_shapes)
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        labels = self.labels(label)
        loss, rows = center_loss(self.rows(x), self.weight, labels)
        return add_row_gradient(loss, self.weight, labels, rows)
