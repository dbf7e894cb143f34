"""PReLU: y = max(0, x) + slope * min(0, x), a slope a channel.

Source: Caffe's prelu_layer.cpp (He et al., Delving Deep into Rectifiers, 2015). At x = 0 the
gradient is that of the negative side, there and here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer
from sphereface.proto import schema

__all__ = ["PReLU", "prelu"]


def prelu(x: Tensor, *, weight: Tensor) -> Tensor:
    """Return x where positive, slope * x elsewhere."""
    return torch.prelu(x, weight)


@register_layer("PReLU", param="prelu_param")
class PReLU(Layer):
    """Rectifier with learned slopes.

    Blobs: ``weight`` (C,), or a scalar with ``channel_shared: true``; 0.25 at the start unless
    ``filler`` says otherwise. With no ``param`` in the file it learns and decays (multipliers 1).
    """

    function = staticmethod(prelu)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the slopes."""
        if len(bottom_shapes[0]) < 2:
            raise self.error(f"bottom of shape {bottom_shapes[0]}", expected="at least 2 axes")
        self.shared = self.options.channel_shared
        filler = self.options.filler
        if not self.options.HasField("filler"):
            filler = schema.message("FillerParameter")(type="constant", value=0.25)
        self.add_blob("weight", () if self.shared else (bottom_shapes[0][1],), filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the channels and return the bottom's shape."""
        if not self.shared and bottom_shapes[0][1:2] != tuple(self.weight.shape):
            raise self.error(
                f"bottom of shape {bottom_shapes[0]}",
                expected=f"{self.weight.shape[0]} channels on axis 1",
            )
        return bottom_shapes
