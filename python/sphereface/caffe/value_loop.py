"""Layers that loop over values: what suppresses boxes cannot be one graph of tensor operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer

__all__ = ["ValueLoop"]


class ValueLoop(Layer):
    """Base of DetectionOutput and Proposal, whose bottoms get no gradient.

    torch.compile breaks the graph at such a layer, and torch.export refuses it.
    """

    def forward(self, *bottoms: Tensor) -> Any:
        """Call `function` with detached bottoms."""
        if torch.compiler.is_exporting():
            raise self.error(
                "suppressing boxes is a loop over values, which torch.export cannot take",
                fix="write the net as .onnx",
            )
        compute = self.compute
        if torch.compiler.is_compiling():
            compute = torch.compiler.disable(compute)
        return compute(*(bottom.detach() for bottom in bottoms))
