"""The classification head of SphereFace as a module: weight, annealing state, forward.

Source: MarginInnerProduct of SphereFace's Caffe fork. What differs: the count of forwards is saved
in the state_dict (the original restarts lambda at `base` on resume) and advances in training only;
evaluation never writes to the weight.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sphereface.annealing import Annealing
from sphereface.errors import SphereFaceError
from sphereface.loss_options import check_memory, check_products
from sphereface.margin_type import is_exact, margin_of
from sphereface.ops import annealed_lambda, margin_inner_product
from sphereface.ops.labels import check_tensors
from sphereface.ops.margin_inner_product import margin_logits
from sphereface.ops.transforms import refuse_transforms

__all__ = ["SEEN", "MarginInnerProduct", "check_integer", "note_rows"]

SEEN = ("lambda_", "target_cosine", "x_norm")
"""What a forward leaves behind for logs: buffers of one float32, not saved."""


class MarginInnerProduct(nn.Module):
    """A-Softmax logits of N classes for embeddings of K features.

    In training mode every forward adds one to `iteration`, computes
    ``lambda = max(lambda_min, base (1 + gamma iteration)^-power)`` and, with ``gradient="caffe"``,
    normalises the rows of `weight` in place, in this order, as the original layer. In evaluation
    mode the count and the weight stay as they are, and lambda is that of the current count.

    Every micro-batch of accumulated gradients counts as one, so with k of them lambda falls k times
    as fast in optimiser steps. `sphereface.annealing.Annealing.over` finds values for a run.
    Activation checkpointing runs a forward twice, and would count it twice: leave the head outside.

    Parameters
    ----------
    in_features : int
        K, the product of the input's dimensions from `axis` on.
    out_features : int
        N, the number of classes.
    margin : float or str
        m >= 1, or SINGLE, DOUBLE, TRIPLE, QUADRUPLE (Caffe's ``type``) for 1 to 4.
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
    memory, products
        As `sphereface.margin_inner_product`; the logits are in the dtype of the products.
    device, dtype
        Of the weight.

    Attributes
    ----------
    weight : Parameter of shape (N, K)
        One row a class, filled uniformly in +-sqrt(3 / K) (Caffe's ``xavier``).
    iteration : Tensor of shape (), int64
        Buffer: training forwards so far, plus the starting count.
    lambda_ : Tensor of shape (), float32
        Buffer, not saved: lambda at the current count.
    target_cosine, x_norm : Tensor of shape (), float32
        Buffers, not saved: the mean cosine between the rows of the last forward and the weights of
        their labels (NaN if none has a label), and the mean length of the rows. Both are 0 before.
    annealing : Annealing
        base, gamma, power and lambda_min.

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
    target_cosine: Tensor
    x_norm: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        margin: float | str = 4,
        base: float = 1.0,
        gamma: float = 0.0,
        power: float = 1.0,
        lambda_min: float = 0.0,
        iteration: int = 0,
        gradient: str = "caffe",
        *,
        ignore_index: int | None = None,
        axis: int = 1,
        memory: str | int | None = None,
        products: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        is_exact(gradient)
        check_memory(memory, type(self).__name__)
        check_products(products)
        self.memory, self.products = memory, products
        self.in_features = check_integer("in_features", in_features, 1)
        self.out_features = check_integer("out_features", out_features, 1)
        self.margin = margin_of(margin)
        self.annealing = Annealing(base, gamma, power, lambda_min)
        self.gradient = gradient
        self.ignore_index = ignore_index
        self.axis = check_integer("axis", axis, 1)
        self.weight = nn.Parameter(
            torch.empty(self.out_features, self.in_features, device=device, dtype=dtype)
        )
        self.first_iteration = check_integer("iteration", iteration, 0)
        count = torch.empty((), dtype=torch.int64, device=device)
        self.register_buffer("iteration", count)
        for name in SEEN:
            seen = torch.empty((), dtype=torch.float32, device=device)
            self.register_buffer(name, seen, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight as Caffe's ``xavier``, in +-sqrt(3 / in_features), and start counting."""
        bound = math.sqrt(3 / self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        with torch.no_grad():
            self.iteration.fill_(self.first_iteration)
            for name in SEEN:
                getattr(self, name).zero_()
        self._anneal()

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        x : Tensor of shape (..., K) with `axis` leading dimensions
            Or with K split over several dimensions, as a feature map.
        label : Tensor of integers
            As many values as x has samples. In evaluation it may be left out, for logits without a
            margin.

        Returns
        -------
        Tensor of shape (..., N)
            In the dtype of `x`, or of the products.

        Raises
        ------
        SphereFaceError
            There is no label in training, or not one a sample; x has not K features.
        RuntimeError
            See `sphereface.margin_inner_product`.
        """
        check_tensors(type(self).__name__, x=x)
        refuse_transforms(type(self).__name__, x, self.weight)
        margin = self.margin
        if label is None and not self.training:
            samples = x.shape[: self.axis]
            label, margin = torch.zeros(samples, dtype=torch.int64, device=x.device), 1
        rows, labels = self.samples(x, label)
        lambda_ = self.advance()
        logits = self.logits(rows, labels, lambda_, margin)
        if margin == self.margin:
            self.observe(rows, labels)
        return logits.view(*x.shape[: self.axis], self.out_features)

    def logits(self, rows: Tensor, label: Tensor, lambda_: Tensor, margin: float) -> Tensor:
        """Return the logits (M, N) of rows (M, K)."""
        # Evaluation takes the raw weight through the same logits without normalising it in place.
        product = margin_inner_product if self.training else margin_logits
        return product(
            rows, self.weight, label, lambda_, margin, self.gradient, self.ignore_index,
            self.memory, self.products,
        )  # fmt: skip

    def samples(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return x as (M, K) and the labels as (M,), checked for their number.

        Raises
        ------
        SphereFaceError
            There is no label, or not one a sample; x has not K features.
        """
        samples = x.shape[: self.axis]
        if label is None:
            raise SphereFaceError(
                "no label in training mode",
                where=type(self).__name__,
                expected="x and label",
                fix="a head gives logits without a margin after head.eval()",
            )
        check_tensors(type(self).__name__, label=label)
        if label.numel() != math.prod(samples):
            shape = tuple(label.shape)
            one_hot = shape == (*samples, self.out_features)
            raise SphereFaceError(
                f"label has shape {shape}",
                where=type(self).__name__,
                expected=f"{tuple(samples)}, one class number a sample",
                fix="it looks one-hot: pass label.argmax(-1)" if one_hot else "",
            )
        return self.rows(x), label.flatten()

    def rows(self, x: Tensor) -> Tensor:
        """Return x as (M, K).

        Raises
        ------
        SphereFaceError
            It has not K features from `axis` on.
        """
        if x.dim() <= self.axis or math.prod(x.shape[self.axis :]) != self.in_features:
            raise SphereFaceError(
                f"x has shape {tuple(x.shape)}",
                where=type(self).__name__,
                expected=f"{self.in_features} features from axis {self.axis} on",
            )
        return x.flatten(self.axis).flatten(0, self.axis - 1)

    @torch.no_grad()
    def advance(self) -> Tensor:
        """Count a forward, in training mode, and return lambda."""
        if self.training:
            self.iteration.add_(1)
        return self._anneal()

    @torch.no_grad()
    def _anneal(self) -> Tensor:
        lambda_ = annealed_lambda(self.iteration, *self.annealing)
        self.lambda_.copy_(lambda_)
        return lambda_

    @torch.no_grad()
    def observe(self, rows: Tensor, label: Tensor) -> None:
        """Note the mean cosine of the labels and the mean length, without waiting for a device."""
        math_dtype = torch.promote_types(rows.dtype, torch.float32)
        index = label.long()
        valid = (index >= 0) & (index < self.out_features)
        if self.ignore_index is not None:
            valid &= index != self.ignore_index
        target = self.weight[index.where(valid, 0)].to(math_dtype)
        cosine = F.cosine_similarity(rows.to(math_dtype), target, dim=1)
        note_rows(self, rows, cosine.where(valid, torch.nan))

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        options = [f"{n}={getattr(self, n)}" for n in ("in_features", "out_features", "margin")]
        options += [f"{name}={value:g}" for name, value in vars(self.annealing).items()]
        options.append(f"gradient={self.gradient!r}, ignore_index={self.ignore_index}")
        options.append(f"axis={self.axis}")
        if self.memory is not None:
            options.append(f"memory={self.memory!r}")
        if self.products is not None:
            options.append(f"products={self.products}")
        return ", ".join(options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # .half() and .bfloat16() convert floating buffers; lambda needs its float32.
        module = super()._apply(fn, recurse)
        for name in SEEN:
            setattr(self, name, getattr(self, name).float())
        return module

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self._anneal()


@torch.no_grad()
def note_rows(module: Any, rows: Tensor, cosine: Tensor) -> None:
    """Fill `target_cosine`, without the rows whose cosine is NaN, and `x_norm` of a module."""
    module.target_cosine.copy_(cosine.nanmean())
    dtype = torch.promote_types(rows.dtype, torch.float32)
    module.x_norm.copy_(torch.linalg.vector_norm(rows, dim=1, dtype=dtype).mean())


def check_integer(name: str, value: SupportsIndex, least: int) -> int:
    """Return `value` as an int.

    Raises
    ------
    SphereFaceError
        It is no integer >= `least`.
    """
    if not hasattr(value, "__index__") or operator.index(value) < least:
        raise SphereFaceError(
            f"{name} is {value!r}", where="margin head", expected=f"an integer >= {least}"
        )
    return operator.index(value)
