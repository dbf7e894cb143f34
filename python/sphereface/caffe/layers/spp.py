"""SPP: pooling at several scales into a vector whose size does not depend on the image's.

Source: Caffe's spp_layer.cpp (He et al., Spatial Pyramid Pooling, 2014). Level i pools 2^i x 2^i
windows that do not overlap, with the padding that makes them fit; the pooling is the Pooling
layer's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.pooling import Pooling
from sphereface.caffe.registry import register_layer

__all__ = ["SPP"]

_LOWEST = torch.finfo(torch.float32).min


@register_layer("SPP", param="spp_param")
class SPP(Layer):
    """Pool 1, 2 x 2, 4 x 4, ... windows; top (N, C (1 + 4 + ...)), level by level.

    Of ``pyramid_height: 1`` the top is (N, C, 1, 1). Kernel and stride are
    ``ceil(size / 2^level)``, the padding half of what is missing, rounded up. ``pool`` is MAX, AVE
    (which counts the padding) or STOCHASTIC (which takes none).
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the number of levels and make the pooling of one window."""
        self.pyramid_height = self.options.pyramid_height
        if self.pyramid_height < 1:
            raise self.error(f"pyramid_height {self.pyramid_height}", expected="at least 1")
        enum = self.options.DESCRIPTOR.enum_types_by_name["PoolMethod"]
        self.method = enum.values_by_number[self.options.pool].name
        param = type(self.layer_param)(name=self.name, type="Pooling", top=["y"])
        param.pooling_param.global_pooling = True
        param.pooling_param.pool = getattr(param.pooling_param, self.method)
        self.pool = Pooling(param, phase="TRAIN" if self.training else "TEST", where=self.where)
        self.pool.build([(1, 1, 1, 1)])

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that every level has its windows and return the top's shape."""
        shape = bottom_shapes[0]
        if len(shape) != 4:
            raise self.error(f"bottom of shape {shape}", expected="4 axes (N, C, H, W)")
        for level in range(self.pyramid_height):
            for size in shape[2:]:
                kernel, near, _ = _window(size, 2**level)
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

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled windows of all levels."""
        levels = [self._pool(x, 2**level) for level in range(self.pyramid_height)]
        if len(levels) == 1:
            return levels[0]
        return torch.cat([level.flatten(1) for level in levels], 1)

    def _pool(self, x: Tensor, bins: int) -> Tensor:
        """Return x pooled to bins x bins."""
        (height, top, bottom), (width, left, right) = (_window(s, bins) for s in x.shape[2:])
        value = _LOWEST if self.method == "MAX" else 0.0
        padded = F.pad(x, (left, right, top, bottom), value=value)
        # A window an image, for the global pooling of one channel.
        windows = padded.unflatten(3, (bins, width)).unflatten(2, (bins, height))
        windows = windows.transpose(3, 4).reshape(-1, 1, height, width)
        return self.pool(windows).reshape(*x.shape[:2], bins, bins)


def _window(size: int, bins: int) -> tuple[int, int, int]:
    """Return the width of `bins` windows over `size` and the padding before and after."""
    width = -(-size // bins)
    missing = width * bins - size
    return width, (missing + 1) // 2, missing // 2
