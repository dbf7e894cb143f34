"""Layers that slide a kernel over the axes behind the channel axis: options and output sizes.

Source: Caffe's base_conv_layer.cpp and im2col_layer.cpp, which read ``convolution_param`` alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from sphereface.caffe.layer import Layer, Shape

__all__ = ["SlidingKernel"]


class SlidingKernel(Layer):
    """Base of Convolution, Deconvolution and Im2col.

    Attributes
    ----------
    axis : int
        The channel axis.
    kernel, stride, pad, dilation : tuple of int
        One for each spatial axis.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read axis, kernel, stride, pad and dilation."""
        shape = bottom_shapes[0]
        self.axis = self.canonical_axis(self.options.axis, shape)
        axes = len(shape) - self.axis - 1
        if axes < 1:
            raise self.error(
                f"bottom of shape {shape}",
                expected=f"spatial axes after the channel axis {self.axis}",
            )
        self.kernel = self.spatial(axes, "kernel_size", "kernel", None)
        self.stride = self.spatial(axes, "stride", "stride", 1)
        self.pad = self.spatial(axes, "pad", "pad", 0)
        self.dilation = self.spatial(axes, "dilation", "", 1)
        holes = self._holes(axes)
        if holes is not None:
            self.dilation = holes
        self.check_depth()
        for name in ("kernel", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise self.error(f"{name} {getattr(self, name)}", expected="at least 1")

    def spatial(self, axes: int, name: str, short: str, default: int | None) -> tuple[int, ...]:
        """Return an option: written once, once an axis, or as ``kernel_h`` and ``kernel_w``."""
        options = self.options
        given = tuple(getattr(options, name))
        sides = tuple(f"{short}_{side}" for side in "hw") if short else ()
        if any(options.HasField(side) for side in sides):
            if axes != 2 or given:
                raise self.error(
                    f"{sides[0]}/{sides[1]}" + (f" together with {name}" if given else ""),
                    expected=f"{name}, or {sides[0]} and {sides[1]} for two spatial axes",
                )
            return tuple(getattr(options, side) for side in sides)
        if not given and default is not None:
            given = (default,)
        if len(given) == 1:
            return given * axes
        if len(given) != axes:
            raise self.error(
                f"{name} given {len(given)} times",
                expected=f"once, or once for each of {axes} axes",
            )
        return given

    def check_depth(self) -> None:
        """Refuse the depth that only three-dimensional kernels of C3D have."""
        for name in ("kernel_depth", "temporal_pad", "temporal_stride"):
            if self.options.HasField(name):
                raise self.error(
                    name, expected="no such option, which C3D's Convolution3D and Pooling3D have"
                )

    def _holes(self, axes: int) -> tuple[int, ...] | None:
        """Return ``hole``, or ``hole_h`` and ``hole_w``: DeepLab's words for dilation."""
        options = self.options
        sides = [options.HasField(name) for name in ("hole_h", "hole_w")]
        if not options.HasField("hole") and not any(sides):
            return None
        if options.dilation or (any(sides) and (axes != 2 or options.HasField("hole"))):
            raise self.error("hole together with dilation or hole_h/hole_w", expected="one of them")
        return (options.hole_h, options.hole_w) if any(sides) else (options.hole,) * axes

    def output_size(self, size: int, axis: int) -> int:
        """Return the output size of spatial axis `axis`, where the bottom has `size`."""
        extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size + 2 * self.pad[axis] - extent) // self.stride[axis] + 1

    def output_sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the output size of each spatial axis of a bottom of `shape`."""
        return tuple(map(self.output_size, shape[self.axis + 1 :], range(len(self.kernel))))

    def checked_sizes(self, shape: Shape) -> tuple[int, ...]:
        """Return `output_sizes`, or raise an error where the bottom is too small."""
        sizes = self.output_sizes(shape)
        if min(sizes) < 1:
            raise self.error(
                f"bottom of shape {shape} gives an output of {sizes}",
                expected=f"sizes that hold the kernel {self.kernel} with pad {self.pad}"
                f" and dilation {self.dilation}",
            )
        return sizes
