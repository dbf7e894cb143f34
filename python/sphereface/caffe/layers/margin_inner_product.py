"""MarginInnerProduct: the logits of A-Softmax, SphereFace's classifier.

Source: Liu et al., "SphereFace", CVPR 2017, and margin_inner_product_layer of the authors' Caffe
fork; the numbers are those of sphereface.ops; ``triplet`` and ``semihard`` are those of the fork of
angular triplet loss. What differs: the count of forwards advances in TRAIN only and is saved in the
state_dict (Caffe's test net has a counter, and so a lambda, of its own, and a resumed run starts
again at `iteration`); TEST does not overwrite the weight; the second top may be left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.annealing import Annealing
from sphereface.caffe.angular_triplet import semihard_rows, write_rows
from sphereface.caffe.class_weights import ClassWeights
from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.errors import SphereFaceError
from sphereface.ops import annealed_lambda, margin_inner_product
from sphereface.ops.margin_inner_product import margin_logits

__all__ = ["AnnealedProduct", "MarginInnerProduct"]


class AnnealedProduct(ClassWeights):
    """What A-Softmax and L-Softmax share: weight, labels and the annealing of lambda.

    Tops: the logits; ``lambda = max(lambda_min, base (1 + gamma iteration)^-power)``, shape (1,).
    Buffer: ``iteration``, the count of forwards in TRAIN plus the option of that name.
    """

    tops = Arity(1, 2)
    annealing: Annealing
    iteration: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the margin and the annealing, and create the weight."""
        super().setup(bottom_shapes)
        options = self.options
        if options.iteration < 0:
            raise self.error(f"iteration {options.iteration}", expected="0 or more")
        self.margin = options.type + 1  # SINGLE is 0
        try:
            self.annealing = Annealing.of(options)
        except SphereFaceError as error:
            raise error.at(self.where) from None
        self.register_buffer("iteration", torch.tensor(options.iteration, dtype=torch.int64))

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return bottom[:axis] + (N,), and (1,) for lambda."""
        self.check_bottoms(bottom_shapes)
        return [(*bottom_shapes[0][: self.axis], self.num_output), (1,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the logits, and lambda where the file asks for it."""
        with torch.no_grad():
            if self.training:
                self.iteration.add_(1)
            lambda_ = annealed_lambda(self.iteration, *self.annealing)
        logits = self.logits(self.rows(x), self.labels(label), lambda_)
        y = logits.reshape(*x.shape[: self.axis], logits.shape[-1])
        return (y, lambda_.reshape(1).to(y.dtype)) if self.top_count == 2 else y

    def count_from_start(self, forwards: int) -> None:
        """Set the count to that after `forwards` in TRAIN."""
        self.iteration.fill_(self.options.iteration + forwards)

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the logits (M, N) of x (M, K)."""
        raise NotImplementedError


@register_layer("MarginInnerProduct", param="margin_inner_product_param")
class MarginInnerProduct(AnnealedProduct):
    """A-Softmax: the label's logit is that of m times the angle theta between x and its weight.

    ``y_j = x . w_j / |w_j|``, and for the label ``(|x| psi(theta) + lambda x . w / |w|) /
    (1 + lambda)``, psi being cos(m theta) continued monotonically. ``type`` SINGLE to QUADRUPLE is
    m = 1 to 4. TRAIN divides the rows of the weight by their norms in place. The gradient is the
    original's, which is not the derivative: see `sphereface.margin_inner_product`.

    ``triplet: true``: in the backward each sample, with probability 1/2, replaces the row of its
    label, and the weight's gradient is zero. ``semihard: true``: samples have no dx whose label
    has the largest logit, or, with a margin, has not the largest x . w.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the switches too."""
        super().setup(bottom_shapes)
        self.triplet, self.semihard = self.options.triplet, self.options.semihard

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the logits; in TRAIN, normalise the weight before."""
        weight: Tensor = self.weight
        if self.training and torch.is_grad_enabled():
            if self.semihard:
                x = x.view_as(x)
            given = x
            if self.triplet:
                x, weight = self._writing(x, label), weight.detach()
        try:
            product = margin_inner_product if self.training else margin_logits
            y = product(x, weight, label, lambda_, self.margin)
        except SphereFaceError as error:  # a row that is not finite
            raise error.at(self.where) from None
        if self.semihard and self.training and torch.is_grad_enabled() and given.requires_grad:
            kept = semihard_rows(y, x, weight, label, self.margin)
            given.register_hook(lambda grad: grad * kept[:, None])
        return y

    def _writing(self, x: Tensor, label: Tensor) -> Tensor:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise self.error("triplet: true on several ranks", expected="one process")
        return write_rows(x, self.weight, label)
