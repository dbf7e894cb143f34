"""Input: blobs that the caller provides.

Source: Caffe's input_layer.cpp. A net's old ``input:``/``input_dim:`` lines are upgraded to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sphereface.caffe.graph import at_least, exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Input"]


@register_layer("Input", param="input_param")
class Input(Layer):
    """Tops of the shapes in the file, which only say what the net is built for."""

    bottoms = exactly(0)
    tops = at_least(1)
    is_input = True

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return one shape for all tops, or one each; None where the file gives none."""
        shapes: list[Shape | None] = [tuple(shape.dim) for shape in self.options.shape]
        if len(shapes) not in (0, 1, self.top_count):
            raise self.error(
                f"{len(shapes)} shapes for {self.top_count} tops",
                expected="one shape for all, or one for each top",
            )
        return shapes if len(shapes) == self.top_count else (shapes or [None]) * self.top_count
