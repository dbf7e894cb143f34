"""InnerProduct: y = x W^T + b over everything from `axis` on.

Source: Caffe's inner_product_layer.cpp; ``normalize: true`` and weights or bias from bottoms 1 and
2 are NormFace's. As there, normalising in training overwrites the weight (its rows divided by
sqrt(|w|^2 + 1e-6)) and the gradient does not pass through it; evaluation normalises a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.pending_logits import PendingProduct
from sphereface.caffe.registry import register_layer

__all__ = ["InnerProduct", "inner_product", "normalized_rows"]


def normalized_rows(weight: Tensor, axis: int, in_place: bool) -> Tensor:
    """Return the rows, which lie along `axis`, divided by their norms, which are constants."""
    with torch.no_grad():
        norm = (weight.square().sum(axis, keepdim=True) + 1e-6).sqrt_()
        if in_place:
            return weight.div_(norm)
    return weight / norm


def inner_product(
    x: Tensor,
    rows: Tensor | None = None,
    term: Tensor | None = None,
    *,
    weight: Tensor,
    bias: Tensor | None,
    axis: int,
    transpose: bool,
    normalize: bool,
    training: bool,
) -> Tensor:
    """Return x W^T + b; W and b are the bottoms behind x, or the blobs."""
    rows = weight if rows is None else rows.flatten(1)
    if normalize:
        rows = normalized_rows(rows, 0 if transpose else 1, training)
    if transpose:
        rows = rows.t()
    if x.dim() > axis + 1:
        x = x.flatten(axis)
    return F.linear(x, rows, bias if term is None else term)


@register_layer("FcRistretto", param="inner_product_param")
@register_layer("InnerProduct", param="inner_product_param")
class InnerProduct(Layer):
    """Fully connected layer.

    Bottoms: x; optionally the weight, then the bias, instead of blobs. Blobs: ``weight`` (N, K),
    or (K, N) with ``transpose: true``; ``bias`` (N,) unless ``bias_term: false``. K is the product
    of the sizes from `axis` on, so it fixes the input size of a net.
    """

    bottoms = Arity(1, 3)
    function = staticmethod(inner_product)
    #: Whether the labels are a bottom, as in MarginInnerProduct.
    has_labels = False

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create weight and bias for the sizes of the first bottom."""
        options = self.options
        self.axis = self.canonical_axis(options.axis, bottom_shapes[0])
        self.transpose = options.transpose
        self.normalize = options.normalize and len(bottom_shapes) == 1
        self.in_features = prod(bottom_shapes[0][self.axis :])
        self.num_output = options.num_output if len(bottom_shapes) == 1 else bottom_shapes[1][0]
        if self.num_output < 1:
            raise self.error(f"num_output {self.num_output}", expected="at least 1")
        if len(bottom_shapes) > 1:
            self.weight = None  # type: ignore[assignment] # a bottom is it
        else:
            shape = (self.num_output, self.in_features)
            self.add_blob("weight", shape[::-1] if self.transpose else shape, options.weight_filler)
        if options.bias_term and len(bottom_shapes) < 3:
            self.add_blob("bias", (self.num_output,), options.bias_filler)
        else:
            self.bias = None

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check K and return bottom[:axis] + (N,)."""
        count = prod(bottom_shapes[0][self.axis :])
        if count != self.in_features:
            raise self.error(
                f"bottom of shape {bottom_shapes[0]} has {count} values from axis {self.axis} on",
                expected=f"{self.in_features}, for which the weight was made",
                fix="feed the input size that the net was built for, or build it with input_shapes",
            )
        return [(*bottom_shapes[0][: self.axis], self.num_output)]

    @property
    def fuses(self) -> bool:
        """Whether `pending` may leave the logits to a loss (`sphereface.caffe.fused_loss`)."""
        return self.weight is not None and self.axis == 1 and not self.transpose

    def pending(self, x: Tensor) -> PendingProduct:
        """Return what `forward` does in TRAIN, with the product left to the loss."""
        rows = normalized_rows(self.weight, 1, True) if self.normalize else self.weight
        return PendingProduct(self.where, x.flatten(1), rows, self.bias)
