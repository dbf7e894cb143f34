"""Layers that loop over boxes, whose number and sizes are values: no single graph of operations."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer

__all__ = ["ValueLoop"]


class ValueLoop(Layer):
    """Base of what loops over boxes; torch.compile breaks the graph here, torch.export refuses.

    Attributes
    ----------
    gradient : bool
        Whether the first bottom gets one; others never do.
    """

    gradient: ClassVar[bool] = False

    def forward(self, *bottoms: Tensor) -> Any:
        """Call `function` with bottoms that are detached where they get no gradient."""
        if torch.compiler.is_exporting():
            raise self.error(
                "it loops over boxes that are values, which torch.export cannot take",
                fix="write the net as .onnx",
            )
        compute = self.compute
        if torch.compiler.is_compiling():
            compute = torch.compiler.disable(compute)
        free = int(self.gradient)
        return compute(*bottoms[:free], *(bottom.detach() for bottom in bottoms[free:]))
