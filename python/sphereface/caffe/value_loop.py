"""Layers that loop over boxes, whose number and sizes are values: no single graph of operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer

__all__ = ["ValueLoop", "uncompiled"]


def uncompiled(layer: Layer, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, of a layer whose values torch.compile shall not see.

    Raises
    ------
    SphereFaceError
        torch.export asks.
    """
    if torch.compiler.is_exporting():
        raise layer.error(
            "it loops over boxes that are values, which torch.export cannot take",
            fix="write the net as .onnx",
        )
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


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
        free = int(self.gradient)
        return uncompiled(self, self.compute)(
            *bottoms[:free], *(bottom.detach() for bottom in bottoms[free:])
        )
