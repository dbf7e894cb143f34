"""MarginInnerProduct: the logits of A-Softmax, SphereFace's classifier.

Source: Liu et al., "SphereFace", CVPR 2017, and margin_inner_product_layer of the authors' Caffe
fork; the numbers are those of sphereface.ops; ``triplet`` and ``semihard`` are those of the fork of
angular triplet loss. What differs: the count of forwards advances in TRAIN only and is saved in the
state_dict (Caffe's test net has a counter, and so a lambda, of its own, and a resumed run starts
again at `iteration`); TEST does not overwrite the weight; the second top may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.annealing import Annealing
from sphereface.caffe.class_weights import ClassWeights
from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.pending_logits import PendingLogits
from sphereface.caffe.registry import register_layer
from sphereface.errors import SphereFaceError
from sphereface.margin_policy import ASoftmax, MarginPolicy
from sphereface.ops import (
    angular_triplet_logits,
    annealed_lambda,
    margin_inner_product,
    margin_softmax_loss,
)
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
    gradient = "exact"
    #: Whether `pending` may leave the logits to a loss (`sphereface.caffe.fused_loss`).
    fuses = True
    #: Whether the labels are a bottom of the layer with the weight.
    has_labels = True
    #: Called with the rows (M, K) and labels (M,) of each forward, if it is set; the rows have no
    #: gradient. Unlike a hook, it leaves the logits to their loss.
    on_rows: Callable[[Tensor, Tensor], None] | None = None

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
        lambda_ = self.advance()
        logits = self.logits(*self.rows_and_labels(x, label), lambda_)
        y = logits.reshape(*x.shape[: self.axis], logits.shape[-1])
        return (y, lambda_.reshape(1).to(y.dtype)) if self.top_count == 2 else y

    def rows_and_labels(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return x as (M, K) and the checked labels (M,), and show them to `on_rows`."""
        rows, labels = self.rows(x), self.labels(label)
        if self.on_rows is not None:
            self.on_rows(rows.detach(), labels)
        return rows, labels

    def advance(self) -> Tensor:
        """Count the forward, in TRAIN, and return its lambda."""
        with torch.no_grad():
            if self.training:
                self.iteration.add_(1)
            return annealed_lambda(self.iteration, *self.annealing)

    def pending(self, x: Tensor, label: Tensor) -> Any:
        """Return what `forward` does in TRAIN, with the logits left to their loss."""
        lambda_ = self.advance()
        rows, _ = self.rows_and_labels(x, label)

        def losses(label: Tensor, ignore_label: int | None) -> Tensor:
            try:
                result = margin_softmax_loss(
                    rows,
                    self.weight,
                    label,
                    lambda_,
                    self.policy,
                    self.gradient,
                    ignore_index=ignore_label,
                    reduction="none",
                )
            except SphereFaceError as error:  # a row that is not finite
                raise error.at(self.where) from None
            assert isinstance(result, Tensor)
            return result

        logits = PendingLogits(self.num_output, losses)
        return (logits, lambda_.reshape(1).to(x.dtype)) if self.top_count == 2 else logits

    def count_from_start(self, forwards: int) -> None:
        """Set the count to that after `forwards` in TRAIN."""
        self.iteration.fill_(self.options.iteration + forwards)

    @property
    def policy(self) -> MarginPolicy:
        """The member of the margin family."""
        raise NotImplementedError

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the logits (M, N) of x (M, K)."""
        raise NotImplementedError

    def plain_logits(self, x: Tensor) -> Tensor:
        """Return the logits (M, N) of x (M, K) without a margin; the weight stays as it is."""
        raise NotImplementedError


@register_layer("MarginInnerProduct", param="margin_inner_product_param")
class MarginInnerProduct(AnnealedProduct):
    """A-Softmax: the label's logit is that of m times the angle theta between x and its weight.

    ``y_j = x . w_j / |w_j|``, and for the label ``(|x| psi(theta) + lambda x . w / |w|) /
    (1 + lambda)``, psi being cos(m theta) continued monotonically. ``type`` SINGLE to QUADRUPLE is
    m = 1 to 4. TRAIN divides the rows of the weight by their norms in place. The gradient is the
    original's, which is not the derivative: see `sphereface.margin_inner_product`. With
    ``gradient: EXACT``, a field of ours, it is the derivative, and TRAIN leaves the weight alone.

    ``triplet: true``: in the backward each sample, with probability 1/2, replaces the row of its
    label, and the weight's gradient is zero. ``semihard: true``: samples have no dx whose label
    has the largest logit, or, with a margin, has not the largest x . w.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the kind of backward too."""
        super().setup(bottom_shapes)
        self.gradient = "exact" if self.options.gradient == self.options.EXACT else "caffe"
        self.triplet, self.semihard = self.options.triplet, self.options.semihard
        if self.gradient == "exact" and (self.triplet or self.semihard):
            raise self.error(
                "gradient: EXACT with triplet or semihard", expected="one kind of backward"
            )
        self.fuses = not (self.triplet or self.semihard)

    @property
    def policy(self) -> MarginPolicy:
        """A-Softmax."""
        return ASoftmax(self.margin)

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the logits; in TRAIN, normalise the weight before."""
        try:
            if self.training and (self.triplet or self.semihard):
                return self._triplet_logits(x, label, lambda_)
            product = margin_inner_product if self.training else margin_logits
            return product(x, self.weight, label, lambda_, self.margin, self.gradient)
        except SphereFaceError as error:  # a row that is not finite
            raise error.at(self.where) from None

    def plain_logits(self, x: Tensor) -> Tensor:
        """Return ``x . w_j / |w_j|``."""
        return F.linear(x, F.normalize(self.weight.detach()))

    def _triplet_logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self.triplet and several:
            raise self.error("triplet: true on several ranks", expected="one process")
        return angular_triplet_logits(
            x,
            self.weight,
            label,
            lambda_,
            self.margin,
            triplet=self.triplet,
            semihard=self.semihard,
        )
