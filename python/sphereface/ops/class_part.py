"""The two halves of `margin_softmax_loss` for a part of the classes.

Between them the parts are put together: see `sphereface.distributed`. Neither is differentiable.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.ops._library import call

__all__ = ["COLUMNS", "class_part_gradients", "class_part_rows"]

COLUMNS = ("max", "sum", "weighted", "target", "plain", "cosine", "other", "other_class")
"""What a part of the classes knows of a row: SoftmaxRow of csrc/include/sphereface/softmax_rows.h.

``max`` and ``sum`` of exp(z - max) over the part's logits z; ``weighted``, sum of w z with label
smoothing; ``target``, ``plain`` and ``cosine`` of the label, its logit with and without the margin,
NaN where the part does not have it; ``other``, the largest logit but the label's, and its class.
"""


def class_part_rows(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the part knows of each row, (M, 8) float64, and what is kept for the backward.

    That are the logits and, on CUDA, unit copies of the weight's rows; empty where they are not.

    The last column, ``other_class``, is to be viewed as int64.
    """
    rows, logits, unit = call(torch.ops.sphereface.margin_softmax_rows, *arguments)
    return rows, logits, unit


def class_part_gradients(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Return the part's share of the gradient of x, and the gradient of its weight.

    The second argument is the log of the sum of exp(z) over the logits of all parts, (M,) float64.
    """
    dx, dweight, *_ = call(torch.ops.sphereface.margin_softmax_backward, *arguments)
    return dx, dweight
