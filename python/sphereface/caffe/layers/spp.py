"""SPP: pooling at several scales into a vector whose size does not depend on the image's.

Source: Caffe's spp_layer.cpp (He et al., Spatial Pyramid Pooling, 2014). Level i pools 2^i x 2^i
windows that do not overlap, with the padding that makes them fit; the pooling is the Pooling
layer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.pooling import LOWEST, pooling
from sphereface.caffe.registry import register_layer

__all__ = ["SPP", "pool_level", "spp", "window_of"]


def window_of(size: int, bins: int) -> tuple[int, int, int]:
    """Return the width of `bins` windows over `size` and the padding before and after."""
    width = -(-size // bins)
    missing = width * bins - size
    return width, (missing + 1) // 2, missing // 2


def pool_level(x: Tensor, bins: int, method: str, training: bool) -> Tensor:
    """Return x pooled to bins x bins."""
    (height, top, bottom), (width, left, right) = (window_of(s, bins) for s in x.shape[2:])
    padded = F.pad(x, (left, right, top, bottom), value=LOWEST if method == "MAX" else 0.0)
    # A window an image, for the global pooling of one channel.
    windows = padded.unflatten(3, (bins, width)).unflatten(2, (bins, height))
    windows = windows.transpose(3, 4).reshape(-1, 1, height, width)
    pooled: Any = pooling(
        windows,
        method=method,
        kernel=None,
        stride=(1, 1),
        pad=(0, 0),
        ceil_mode=True,
        top_count=1,
        training=training,
    )
    return pooled.reshape(*x.shape[:2], bins, bins)


def spp(x: Tensor, *, pyramid_height: int, method: str, training: bool) -> Tensor:
    """Return the pooled windows of all levels, as a vector if there are several."""
    levels = [pool_level(x, 2**level, method, training) for level in range(pyramid_height)]
    if len(levels) == 1:
        return levels[0]
    return torch.cat([level.flatten(1) for level in levels], 1)


@register_layer("SPP", param="spp_param")
class SPP(Layer):
    """Pool 1, 2 x 2, 4 x 4, ... windows; top (N, C (1 + 4 + ...)), level by level.

    Of ``pyramid_height: 1`` the top is (N, C, 1, 1). Kernel and stride are
    ``ceil(size / 2^level)``, the padding half of what is missing, rounded up. ``pool`` is MAX, AVE
    (which counts the padding) or STOCHASTIC (which takes none).
    """

    function = staticmethod(spp)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the number of levels and the way of pooling."""
        self.pyramid_height = self.options.pyramid_height
        if self.pyramid_height < 1:
            raise self.error(f"pyramid_height {self.pyramid_height}", expected="at least 1")
        self.method = self.option_name("pool")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that every level has its windows and return the top's shape."""
        shape = bottom_shapes[0]
        if len(shape) != 4:
            raise self.error(f"bottom of shape {shape}", expected="4 axes (N, C, H, W)")
        for level in range(self.pyramid_height):
            for size in shape[2:]:
                kernel, near, _ = window_of(size, 2**level)
                if near >= kernel:
                    raise self.error(
                        f"bottom of shape {shape} has no {2**level} windows of {kernel} on a side",
                        expected="a larger bottom, or a smaller pyramid_height",
                    )
                if near and self.method == "STOCHASTIC":
                    raise self.error(
                        f"bottom of shape {shape} with pool: STOCHASTIC",
                        expected=f"sizes divisible by {2**level}",
                    )
        if self.pyramid_height == 1:
            return [(*shape[:2], 1, 1)]
        return [(shape[0], shape[1] * sum(4**level for level in range(self.pyramid_height)))]
