"""ContinuationIndicator: the marks of sequences that all start at the first step.

Source: continuation_indicator_layer.cpp of the forks that read lines of text (CRNN), and Intel's.
What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["ContinuationIndicator"]


@register_layer("ContinuationIndicator", param="continuation_indicator_param")
class ContinuationIndicator(Layer):
    """0 in the first row and 1 in the others, (``time_step``, ``batch_size``): what LSTM takes."""

    bottoms = exactly(0)
    indicators: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Make the marks."""
        shape = (self.options.time_step, self.options.batch_size)
        if min(shape) < 1:
            raise self.error(f"time_step, batch_size {shape}", expected="both of them, positive")
        marks = torch.ones(shape)
        marks[0] = 0
        self.register_buffer("indicators", marks, persistent=False)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (time_step, batch_size)."""
        return [tuple(self.indicators.shape)]

    def forward(self) -> Tensor:
        """Return the marks."""
        return self.indicators.clone()
