"""Split: the bottom, as many times as there are tops.

Source: Caffe's split_layer.cpp. Caffe inserts it for every blob with several readers and saves it
in caffemodels; here autograd sums the gradients, so only a Split in the file is a layer.
"""

from __future__ import annotations

from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer
from sphereface.caffe.registry import register_layer

__all__ = ["Split", "split"]


def split(x: Tensor, *, top_count: int) -> Tensor | tuple[Tensor, ...]:
    """Return the bottom for each top."""
    return x if top_count == 1 else (x,) * top_count


@register_layer("Split")
class Split(Layer):
    """Every top is the bottom; the bottom's gradient is the sum of the tops'."""

    tops = at_least(1)
    function = staticmethod(split)
