"""TripletLoss: an anchor nearer to its positive than to its negative.

Source: triplet_loss_layer.cpp of the forks that give it three bottoms (happynear's, ducha-aiki's,
Wei Tang's of 2015; Schroff et al., CVPR 2015, equation 3), which agree. What differs: forks that
give it another number of bottoms compute other things, and are refused. The first bottom is always
the anchor and the margin an option: forks with another order (positive, anchor, negative) or a
fixed margin cannot be told apart, so their files need the bottoms reordered and the margin written.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["TripletLoss"]


@register_layer("TripletLoss", param="triplet_loss_param")
class TripletLoss(LossLayer):
    """``sum max(0, margin + |a - p|^2 - |a - n|^2) / (2 N)`` of anchors, positives and negatives.

    Bottoms a, p and n: (N, C) or (N, C, 1, 1), row by row a triplet.
    """

    bottoms = at_least(1)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margin."""
        super().setup(bottom_shapes)
        if len(bottom_shapes) != 3:
            raise self.error(
                f"{len(bottom_shapes)} bottoms",
                expected="3: anchors, positives and negatives; forks that give the layer other"
                " bottoms each compute something else",
            )
        self.margin = self.options.margin

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the bottoms have one shape; the top is a scalar."""
        if len({*bottom_shapes}) > 1 or not bottom_shapes[0]:
            raise self.error(
                f"bottoms of shapes {', '.join(map(str, bottom_shapes))}", expected="one shape"
            )
        return [()]

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss."""
        rows = (anchor.shape[0], prod(anchor.shape[1:]))
        near, far = (
            (anchor - other).reshape(rows).square().sum(1) for other in (positive, negative)
        )
        return (self.margin + near - far).relu().sum() / (2 * anchor.shape[0])
