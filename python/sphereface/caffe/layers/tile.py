"""Tile: the bottom repeated along one axis.

Source: Caffe's tile_layer.cpp. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Tile", "tile"]


def tile(x: Tensor, *, axis: int, tiles: int) -> Tensor:
    """Return the copies of x, one after the other on `axis`."""
    return torch.cat([x] * tiles, axis)


@register_layer("Tile", param="tile_param")
class Tile(Layer):
    """``tiles`` copies of the bottom, one after the other on ``axis`` (default 1)."""

    function = staticmethod(tile)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the axis and the number of copies."""
        self.axis, self.tiles = self.options.axis, self.options.tiles
        if self.tiles < 1:
            given = f"tiles {self.tiles}" if self.options.HasField("tiles") else "no tiles"
            raise self.error(given, expected="the number of copies, 1 or more")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Multiply the size of the axis."""
        shape = bottom_shapes[0]
        axis = self.canonical_axis(self.axis, shape)
        return [(*shape[:axis], shape[axis] * self.tiles, *shape[axis + 1 :])]
