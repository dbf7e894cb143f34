"""The classification head of SphereFace as a module: weight, annealing state, forward.

Source: MarginInnerProduct of SphereFace's Caffe fork. What differs: the count of forwards is saved
in the state_dict (the original restarts lambda at `base` on resume) and advances in training only;
evaluation never writes to the weight.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from sphereface.errors import SphereFaceError
from sphereface.margin_type import is_exact, margin_of
from sphereface.ops import annealed_lambda, margin_inner_product
from sphereface.ops.margin_inner_product import margin_logits

__all__ = ["MarginInnerProduct"]

_LARGEST = torch.finfo(torch.float32).max


class MarginInnerProduct(nn.Module):
    """A-Softmax logits of N classes for embeddings of K features.

    In training mode every forward adds one to `iteration`, computes
    ``lambda = max(lambda_min, base (1 + gamma iteration)^-power)`` and, with ``gradient="caffe"``,
    normalises the rows of `weight` in place, in this order, as the original layer. In evaluation
    mode the count and the weight stay as they are, and lambda is that of the current count.

    Activation checkpointing runs a forward twice, and would count it twice: leave the head outside.

    Parameters
    ----------
    in_features : int
        K, the product of the input's dimensions from `axis` on.
    out_features : int
        N, the number of classes.
    margin : int or str
        m = 1..4, or SINGLE, DOUBLE, TRIPLE, QUADRUPLE (Caffe's ``type``).
    base, gamma, power, lambda_min : float
        The annealing of lambda. The defaults are Caffe's (lambda = 1); the paper trained with
        ``base=1000, gamma=0.12, power=1, lambda_min=5``.
    iteration : int
        The count to start from.
    gradient : {"caffe", "exact"}
        The original's backward or the true gradient: see `sphereface.margin_inner_product`.
    ignore_index : int, optional
        Rows with this label get no margin.
    axis : int
        First input dimension that is a feature; the ones before it count samples.
    device, dtype
        Of the weight.

    Attributes
    ----------
    weight : Parameter of shape (N, K)
        One row a class, filled uniformly in +-sqrt(3 / K) (Caffe's ``xavier``).
    iteration : Tensor of shape (), int64
        Buffer: training forwards so far, plus the starting count.
    lambda_ : Tensor of shape (), float32
        Buffer, not saved: lambda of the last forward.

    Raises
    ------
    SphereFaceError
        An option is out of its range.

    Examples
    --------
    >>> head = MarginInnerProduct(512, 10572, base=1000, gamma=0.12, lambda_min=5)
    >>> logits = head(torch.randn(4, 512), torch.tensor([0, 5, 7, 10571]))
    >>> logits.shape, round(head.lambda_.item(), 4)
    (torch.Size([4, 10572]), 892.8571)
    """

    iteration: Tensor
    lambda_: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        margin: int | str = 4,
        base: float = 1.0,
        gamma: float = 0.0,
        power: float = 1.0,
        lambda_min: float = 0.0,
        iteration: int = 0,
        gradient: str = "caffe",
        *,
        ignore_index: int | None = None,
        axis: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        is_exact(gradient)
        self.in_features = _integer("in_features", in_features, 1)
        self.out_features = _integer("out_features", out_features, 1)
        self.margin = margin_of(margin)
        self.base = _non_negative("base", base)
        self.gamma = _non_negative("gamma", gamma)
        self.power = _non_negative("power", power)
        self.lambda_min = _non_negative("lambda_min", lambda_min)
        self.gradient = gradient
        self.ignore_index = ignore_index
        self.axis = _integer("axis", axis, 1)
        self.weight = nn.Parameter(
            torch.empty(self.out_features, self.in_features, device=device, dtype=dtype)
        )
        self.first_iteration = _integer("iteration", iteration, 0)
        count = torch.empty((), dtype=torch.int64, device=device)
        self.register_buffer("iteration", count)
        lambda_ = torch.empty((), dtype=torch.float32, device=device)
        self.register_buffer("lambda_", lambda_, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight as Caffe's ``xavier``, in +-sqrt(3 / in_features), and start counting."""
        bound = math.sqrt(3 / self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        with torch.no_grad():
            self.iteration.fill_(self.first_iteration)
            self.lambda_.zero_()

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        x : Tensor of shape (..., K) with `axis` leading dimensions
            Or with K split over several dimensions, as a feature map.
        label : Tensor of integers
            As many values as x has samples.

        Returns
        -------
        Tensor of shape (..., N)
            In the dtype of `x`.

        Raises
        ------
        RuntimeError
            See `sphereface.margin_inner_product`.
        """
        samples = x.shape[: self.axis]
        rows = x.flatten(self.axis).flatten(0, self.axis - 1)  # (M, K)
        with torch.no_grad():
            if self.training:
                self.iteration.add_(1)
            lambda_ = annealed_lambda(
                self.iteration, self.base, self.gamma, self.power, self.lambda_min
            )
            self.lambda_.copy_(lambda_)
        # Evaluation takes the raw weight through the same logits without normalising it in place.
        product = margin_inner_product if self.training else margin_logits
        logits = product(
            rows,
            self.weight,
            label.flatten(),
            lambda_,
            self.margin,
            self.gradient,
            self.ignore_index,
        )
        return logits.view(*samples, self.out_features)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        names = ("in_features", "out_features", "margin", "base", "gamma", "power", "lambda_min")
        options = [f"{name}={getattr(self, name):g}" for name in names]
        rest = f"gradient={self.gradient!r}, ignore_index={self.ignore_index}, axis={self.axis}"
        return ", ".join([*options, rest])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # .half() and .bfloat16() convert floating buffers; lambda needs its float32.
        module = super()._apply(fn, recurse)
        self.lambda_ = self.lambda_.float()
        return module


def _integer(name: str, value: SupportsIndex, least: int) -> int:
    if not hasattr(value, "__index__") or operator.index(value) < least:
        raise SphereFaceError(
            f"{name} is {value!r}", where="MarginInnerProduct", expected=f"an integer >= {least}"
        )
    return operator.index(value)


def _non_negative(name: str, value: float) -> float:
    if not (isinstance(value, Real) and 0 <= value <= _LARGEST):
        raise SphereFaceError(
            f"{name} is {value!r}", where="MarginInnerProduct", expected="a float32 number >= 0"
        )
    return float(value)
