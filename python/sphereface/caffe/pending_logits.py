"""What stands in the place of logits that a layer left to their loss (`caffe/fused_loss.py`).

Source: none, Caffe stores them. The layers between an InnerProduct and its SoftmaxWithLoss change
the operands of the product, which is far smaller than the logits are, and the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from sphereface.caffe.layer import Layer
from sphereface.errors import SphereFaceError
from sphereface.margin_policy import CosineMargin, LSoftmax, MarginPolicy
from sphereface.ops import margin_softmax_loss

__all__ = ["PendingLogits", "PendingProduct"]


class PendingLogits(NamedTuple):
    """Logits of a layer that has their labels.

    Attributes
    ----------
    classes : int
        N.
    losses : callable
        ``losses(label, ignore_label)`` returns the cross entropy of each row, (M,), 0 where it is
        ignored; `label` is int64, and valid or `ignore_label`.
    """

    classes: int
    losses: Callable[[Tensor, int | None], Tensor]


class PendingProduct(NamedTuple):
    """``x W^T + bias``, then a margin or none.

    Attributes
    ----------
    where : str
        Of the layer with the weight, for errors.
    x : Tensor of shape (M, K)
    weight : Tensor of shape (N, K)
    bias : Tensor of shape (N,) or None
    margin : dict or None
        ``form`` and numbers of `CosineMargin`.
    length : float
        What the logits were multiplied with behind the margin.
    """

    where: str
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    margin: dict[str, Any] | None = None
    length: float = 1.0

    @property
    def classes(self) -> int:
        """N."""
        return self.weight.shape[0]

    def times(self, factor: Layer) -> PendingProduct:
        """Return them through a layer that multiplies by one number.

        Without a margin before it the number may be learned: its gradient is that of x times it.
        """
        bias = None if self.bias is None else factor.forward(self.bias)
        length = self.length
        if self.margin is not None:
            length *= factor.constant_factor()  # type: ignore[operator]
        return self._replace(x=factor.forward(self.x), bias=bias, length=length)

    def losses(self, label: Tensor, ignore_label: int | None) -> Tensor:
        """Return the cross entropy of each row, (M,), as `PendingLogits.losses`."""
        policy: MarginPolicy = LSoftmax(1, bias=self.bias)
        if self.margin is not None:
            policy = CosineMargin(self.length, **self.margin)
        try:
            result = margin_softmax_loss(
                self.x,
                self.weight,
                label,
                margin=policy,
                ignore_index=ignore_label,
                reduction="none",
                products="autocast",
            )
        except SphereFaceError as error:  # a row that is not finite
            raise error.at(self.where) from None
        assert isinstance(result, Tensor)
        return result
