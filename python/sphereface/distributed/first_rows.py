"""What the rows of split class weights start with, whatever the split is.

Source: none. What differs from `torch.nn.init`: a block of classes has a seed of its own, so that
no process draws the rows of others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sphereface.class_range import ClassRange

__all__ = ["fill_rows"]

_BLOCK = 1 << 10  # classes that one seed fills


@torch.no_grad()
def fill_rows(weight: Tensor, classes: ClassRange, seed: int) -> None:
    """Fill the rows (N, K) of `classes` uniformly in +-sqrt(3 / K)."""
    features = weight.shape[1]
    bound = math.sqrt(3 / features)
    begin, end = classes.first, classes.first + classes.count
    for block in range(begin // _BLOCK, -(-end // _BLOCK)):
        generator = torch.Generator().manual_seed((seed << 32) + block)
        rows = torch.empty(_BLOCK, features).uniform_(-bound, bound, generator=generator)
        first = block * _BLOCK
        here = slice(max(begin, first), min(end, first + _BLOCK))
        weight[here.start - begin : here.stop - begin] = rows[
            here.start - first : here.stop - first
        ].to(weight)
