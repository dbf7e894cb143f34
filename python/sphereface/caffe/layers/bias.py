"""Bias: adds a blob, or a second bottom, that spans some axes of the bottom.

Source: Caffe's bias_layer.cpp. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Bias", "bias", "spread"]


def spread(small: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return `small`, which spans axes of x from `axis` on, so that it broadcasts over x."""
    start = axis % x.dim() if small.dim() else x.dim()
    return small.reshape(small.shape + (1,) * (x.dim() - start - small.dim()))


def bias(x: Tensor, term: Tensor | None = None, *, bias: Tensor, axis: int) -> Tensor:
    """Return x + the second bottom, or the blob."""
    return x + spread(bias if term is None else term, x, axis)


@register_layer("Bias", param="bias_param")
class Bias(Layer):
    """x + bias, the bias (d_axis, ..., d_(axis + num_axes - 1)) repeated along the other axes.

    Bottoms: x; optionally the bias, whose axes are then those from ``axis`` on. Otherwise it is the
    blob ``bias`` of ``num_axes`` axes: -1 all from ``axis`` on, 0 a single number. Zeros unless
    ``filler`` says otherwise.
    """

    bottoms = Arity(1, 2)
    function: Callable[..., Tensor] = staticmethod(bias)
    bias: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the bias, unless the second bottom is it."""
        self.axis = self.options.axis
        if len(bottom_shapes) == 2:
            self.bias = None  # type: ignore[assignment] # a bottom is it
        else:
            self.add_blob("bias", self.blob_shape(bottom_shapes[0]), self.options.filler)

    def blob_shape(self, shape: Shape) -> Shape:
        """Return the sizes of the axes that a blob spans."""
        axis, num_axes = self.canonical_axis(self.axis, shape), self.options.num_axes
        if num_axes < -1 or axis + num_axes > len(shape):
            raise self.error(
                f"num_axes {num_axes} from axis {axis} of a bottom of shape {shape}",
                expected=f"-1 to {len(shape) - axis}",
            )
        return shape[axis:] if num_axes == -1 else shape[axis : axis + num_axes]

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the blob or second bottom fits and return the first bottom's shape."""
        shape = bottom_shapes[0]
        small = bottom_shapes[1] if len(bottom_shapes) == 2 else tuple(self.blobs[0].shape)
        axis = self.canonical_axis(self.axis, shape) if small else 0
        if shape[axis : axis + len(small)] != small:
            name = "bottom 1" if len(bottom_shapes) == 2 else f"blob {self.blob_names[0]}"
            raise self.error(
                f"{name} of shape {small} for a bottom of shape {shape}",
                expected=f"the sizes of {len(small)} axes from axis {axis} on",
            )
        return [shape]
