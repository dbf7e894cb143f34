"""GlobalLSEMargin: a learned scale, and the additive margin that the batch's cosines call for.

Source: global_lse_margin_layer.cu of AM-Softmax's Caffe fork. What differs: the margin and the
scale's limits move in TRAIN only; statistics of rows that are not finite leave the margin alone, as
there. The margin is a constant for the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.batch_norm import fix_blobs
from sphereface.caffe.registry import register_layer
from sphereface.proto import schema

__all__ = ["GlobalLSEMargin", "mean_shift"]

_FIRST_STEPS = 20
_WINDOW, _CLOSE = 0.1, 0.001


def mean_shift(values: Tensor, start: Tensor, steps: int) -> Tensor:
    """Return the mode of `values` near `start`: steps to the mean of those within 0.1 of it.

    Where there are none, the mean of all is the start. A step of less than 0.001 is the last.
    """
    mode, done = start, torch.zeros_like(start, dtype=torch.bool)
    for _ in range(steps):
        empty = ~((values - mode).abs() < _WINDOW).any()
        mode = torch.where(empty & ~done, values.mean(), mode)
        near = (values - mode).abs() < _WINDOW
        moved = torch.where(near, values, 0).sum() / near.sum().clamp(min=1)
        moved = torch.where(near.any(), moved, mode)
        mode, done = torch.where(done, mode, moved), done | ((moved - mode).abs() < _CLOSE)
    return mode


@register_layer("GlobalLSEMargin", param="scale_param")
class GlobalLSEMargin(Layer):
    """``s cos``, for the label ``s (cos - m)`` where m is positive.

    The log-sum-exp of a row is that of the other classes, ``log(sum exp(s cos)) / s``; the row's
    margin is the label's cosine above it. m is the mode of the first batch's margins
    (`mean_shift`), and then a running one of decay 0.9.

    Bottoms: cosines (M, classes...); labels, one a row; optionally the scales, one a row. Blobs:
    ``weight`` (1,), the scale s, learned, 30 unless ``scale_param`` has a filler, between its
    ``min_value`` and ``max_value``; ``margin`` (1,), m, never learned. Second top, shape (5,): the
    means of s, of the label's cosine, of the log-sum-exp and of the largest other cosine, and m.
    """

    bottoms = Arity(2, 3)
    tops = Arity(1, 2)
    weight: Tensor
    margin: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the scale and the margin."""
        options = self.options
        low = options.min_value if options.HasField("min_value") else 0.0
        high = options.max_value if options.HasField("max_value") else inf
        self.limits = (low, high)
        given = len(self.layer_param.param)
        fix_blobs(self, 2, range(given, 2), lr_mult=0, decay_mult=0)
        if not given and len(bottom_shapes) == 2:
            self.layer_param.param[0].lr_mult = 1
        filler = options.filler
        if not options.HasField("filler"):
            filler = schema.message("FillerParameter")(value=30)
        self.add_blob("weight", (1,), filler)
        self.add_blob("margin", (1,), buffer=True)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check labels and scales and return the cosines' shape, and that of the statistics."""
        shape = bottom_shapes[0]
        for other in bottom_shapes[1:]:
            if not shape or prod(other) != shape[0]:
                raise self.error(
                    f"a bottom of shape {other} for cosines of shape {shape}", expected="one a row"
                )
        return [shape, (5,)][: self.top_count]

    def forward(
        self, x: Tensor, label: Tensor, norm: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the scaled cosines, and the statistics where the file asks for them."""
        rows = x.flatten(1)
        column = class_labels(self, label, rows.shape[1])[:, None]
        if self.training:
            with torch.no_grad():
                self.weight.clamp_(*self.limits)
        scale = self.weight if norm is None else norm.reshape(-1, 1)
        own, largest, lse = self._rows(rows.detach(), column, scale.detach())
        if self.training:
            self._follow(own - lse)
        margin = self.margin.clamp(min=0).to(x.dtype)
        moved = rows.scatter_add(1, column, -margin.expand(len(rows), 1))
        y = (moved * scale).reshape(x.shape)
        if self.top_count == 1:
            return y
        means = [scale.detach().mean(), own.mean(), lse.mean(), largest.mean()]
        return y, torch.stack([*means, self.margin[0].to(x.dtype)])

    def _rows(self, cosines: Tensor, column: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        """Return each row's cosine of the label, largest other one (at least -1), log-sum-exp."""
        others = cosines.scatter(1, column, -inf)
        largest = others.amax(1, keepdim=True).clamp(min=-1)
        lse = ((others - largest) * scale).exp().sum(1, keepdim=True).log() / scale + largest
        return cosines.gather(1, column), largest, lse

    @torch.no_grad()
    def _follow(self, margins: Tensor) -> None:
        """Move the margin to the mode of the batch's."""
        margins = margins.to(self.margin.dtype)
        first = mean_shift(margins, margins.mean(), _FIRST_STEPS)
        later = 0.9 * self.margin[0] + 0.1 * mean_shift(margins, self.margin[0], 1)
        moved = torch.where(self.margin[0] == 0, first, later)
        self.margin.copy_(torch.where(moved.isnan(), self.margin, moved))
