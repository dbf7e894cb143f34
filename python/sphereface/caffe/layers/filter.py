"""Filter: the samples that a selector marks.

Source: Caffe's filter_layer.cpp. The number of samples that pass depends on values: `reshape`
promises all of them (as Caffe does at setup), torch.compile breaks the graph here unless
``torch._dynamo.config.capture_dynamic_output_shape_ops`` is set, and torch.export gives the top a
size of its own that layers of a fixed batch size cannot take. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Filter", "marked_samples"]


def marked_samples(*bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Return, of each bottom but the last, the samples that the last marks."""
    passing = bottoms[-1].reshape(-1).nonzero()[:, 0]
    tops = tuple(x.index_select(0, passing) for x in bottoms[:-1])
    return tops[0] if len(tops) == 1 else tops


@register_layer("Filter")
class Filter(Layer):
    """Of each bottom but the last, the samples whose value in the last, the selector, is not 0.

    Samples that do not pass get a zero gradient; the selector gets none.
    """

    bottoms = at_least(2)
    function = staticmethod(marked_samples)
    tops = at_least(1)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the selector; the shapes are those of a selector that marks all samples."""
        *shapes, selector = bottom_shapes
        if len(shapes) != self.top_count:
            raise self.error(
                f"{self.top_count} tops for {len(shapes)} bottoms and a selector",
                expected="one top for each bottom but the last",
            )
        if not selector or prod(selector[1:]) != 1:
            raise self.error(f"selector of shape {selector}", expected="one value a sample")
        for position, shape in enumerate(shapes):
            if shape[:1] != selector[:1]:
                raise self.error(
                    f"bottom {position} has shape {shape}",
                    expected=f"{selector[0]} samples, as many as the selector has values",
                )
        return shapes
