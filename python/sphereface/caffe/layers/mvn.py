"""MVN: each channel of each sample minus its mean, divided by its standard deviation.

Source: Caffe's mvn_layer.cpp. eps is added to the standard deviation, not to the variance. In the
gradient Caffe takes the derivative of the standard deviation at deviation + eps, which keeps it
finite for constant inputs; so does this.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["MVN", "mvn"]


def mvn(x: Tensor, *, first_axis: int, normalize_variance: bool, eps: float) -> Tensor:
    """Return x minus its mean, over its deviation + eps, over the axes from `first_axis` on."""
    # In half precision the default eps would be 0.
    rows = x.to(torch.promote_types(x.dtype, torch.float32))
    rows = rows.reshape(*x.shape[:first_axis], prod(x.shape[first_axis:]))
    if normalize_variance:
        variance, mean = torch.var_mean(rows, -1, correction=0, keepdim=True)
        divisor = variance.detach().sqrt() + eps
        divisor = divisor + (variance - variance.detach()) / (2 * divisor)
        rows = (rows - mean) / divisor
    else:
        rows = rows - rows.mean(-1, keepdim=True)
    return rows.reshape(x.shape).to(x.dtype)


@register_layer("MVN", param="mvn_param")
class MVN(Layer):
    """(x - mean) / (deviation + eps) over the axes from 2 on.

    ``across_channels: true``: over those from 1 on. ``normalize_variance: false``: only x - mean.
    """

    function = staticmethod(mvn)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        options = self.options
        self.first_axis = 1 if options.across_channels else 2
        self.normalize_variance, self.eps = options.normalize_variance, options.eps

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of axes and return the bottom's shape."""
        if len(bottom_shapes[0]) > 4:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="at most 4 axes")
        return bottom_shapes
