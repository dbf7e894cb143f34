"""InnerDistance: distances of every row to every row of a weight.

Source: inner_distance_layer.cpp of NormFace's Caffe fork. As there, normalising in training
overwrites the weight and the gradient does not pass through it. What differs: L2 is computed by one
matrix product, so distances that are small beside the norms lose digits, down to 0; evaluation
normalises a copy; there is no bias unless the file asks for one (later versions of the fork have
none, earlier ones have it by default); ``transpose``, which the fork does not compute, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.inner_product import normalized_rows
from sphereface.caffe.registry import register_layer

__all__ = ["InnerDistance", "inner_distance"]


def inner_distance(
    x: Tensor,
    *others: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    axis: int,
    distance_type: str,
    normalize: bool,
    update_center_only: bool,
    training: bool,
) -> Tensor:
    """Return the distances of the rows of x to those of the second bottom, or of the blob.

    With `update_center_only` the last bottom holds labels: for the gradient of the weight, only
    each row's distance to its label's counts.
    """
    rows = weight if weight is not None else others[0].flatten(1)
    if normalize:
        rows = normalized_rows(rows, 1, training)
    y = x.reshape(-1, rows.shape[1])  # (M, K)
    if update_center_only:
        column = others[-1].reshape(-1, 1).long()
        own = torch.zeros(len(y), len(rows), dtype=torch.bool, device=y.device)
        own = own.scatter(1, column, True)
        all_ = distances(y, rows.detach(), distance_type)
        centred = distances(y.detach(), rows, distance_type)
        y = all_ + (centred - centred.detach()).where(own, 0)
    else:
        y = distances(y, rows, distance_type)
    if bias is not None:
        y = y + bias
    return y.reshape(*x.shape[:axis], rows.shape[0])


def distances(x: Tensor, rows: Tensor, distance_type: str) -> Tensor:
    """Return sums of |difference|, or of its square, (M, N) between x (M, K) and rows (N, K)."""
    if distance_type == "L1":
        wide = torch.promote_types(x.dtype, torch.float32)  # all that cdist knows
        return torch.cdist(x.to(wide), rows.to(wide), p=1).to(x.dtype)
    squares = x.square().sum(1, keepdim=True) + rows.square().sum(1)
    return (squares - 2 * x @ rows.t()).clamp(min=0)


@register_layer("InnerDistance", param="inner_distance_param")
class InnerDistance(Layer):
    """``distance_type`` "L2": ``y_ij = |x_i - w_j|^2``; "L1": ``sum |x_i - w_j|``; plus ``b_j``.

    Bottoms: x, flattened from `axis` on to K features; optionally the weight; with
    ``update_center_only`` the labels, last. Blobs: ``weight`` (N, K) where it is no bottom, its
    rows normalised with ``normalize: true``; ``bias`` (N,) with ``bias_term: true``.
    """

    bottoms = Arity(1, 3)
    function = staticmethod(inner_distance)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create weight and bias for the sizes of the first bottom."""
        options = self.options
        self.axis = self.canonical_axis(options.axis, bottom_shapes[0])
        self.in_features = prod(bottom_shapes[0][self.axis :])
        self.distance_type = options.distance_type
        if not options.HasField("distance_type"):
            # Where the fork's first version had it.
            self.distance_type = self.layer_param.inner_product_param.distance_type
        if self.distance_type not in ("L1", "L2"):
            raise self.error(f'distance_type "{self.distance_type}"', expected='"L1" or "L2"')
        if options.transpose:
            raise self.error("transpose: true", expected="false; the fork computes no other")
        self.update_center_only = options.update_center_only
        given = len(bottom_shapes) - self.update_center_only
        if given not in (1, 2):
            raise self.error(
                f"{len(bottom_shapes)} bottoms with update_center_only {self.update_center_only}",
                expected="x, perhaps the weight, and the labels with update_center_only",
            )
        self.normalize = options.normalize and given == 1
        outputs = bottom_shapes[1][0] if given == 2 else options.num_output
        if given == 2:
            self.weight = None  # type: ignore[assignment] # a bottom is it
        else:
            if outputs < 1:
                raise self.error(f"num_output {outputs}", expected="at least 1")
            self.add_blob("weight", (outputs, self.in_features), options.weight_filler)
        if options.HasField("bias_term") and options.bias_term:
            self.add_blob("bias", (outputs,), options.bias_filler)
        else:
            self.bias = None

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check K and the labels and return bottom[:axis] + (N,)."""
        shape = bottom_shapes[0]
        weight = bottom_shapes[1] if self.weight is None else tuple(self.weight.shape)
        count = prod(shape[self.axis :])
        if count != prod(weight[1:]):
            raise self.error(
                f"bottom of shape {shape} has {count} values from axis {self.axis} on",
                expected=f"{prod(weight[1:])}, those of a row of the weight of shape {weight}",
            )
        if self.update_center_only and prod(bottom_shapes[-1]) != prod(shape[: self.axis]):
            raise self.error(f"labels of shape {bottom_shapes[-1]}", expected="one a row of x")
        return [(*shape[: self.axis], weight[0])]

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return the distances, of checked labels."""
        if self.update_center_only:
            classes = len(others[0] if self.weight is None else self.weight)
            others = (*others[:-1], class_labels(self, others[-1], classes))
        return self.compute(x, *others)
