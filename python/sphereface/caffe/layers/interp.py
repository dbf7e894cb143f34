"""Interp: bilinear resizing whose corners stay corners.

Source: interp_layer.cpp of DeepLab's and PSPNet's Caffe forks; a second bottom is of forks of
PSPNet's. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Interp", "interp", "interpolated_size"]


def interpolated_size(size: int, shrink: int, zoom: int) -> int:
    """Return the points of `size` when each shrink-th stays, and `zoom` - 1 come between two."""
    kept = (size - 1) // shrink + 1
    return kept + (kept - 1) * (zoom - 1)


def interp(
    x: Tensor,
    *like: Tensor,
    crop: tuple[int, int],
    sizes: tuple[int, int] | None,
    shrink: int,
    zoom: int,
) -> Tensor:
    """Return x without `crop` rows and columns at both ends, resized, to the size of `like`."""
    near, far = crop
    x = x[:, :, near : x.shape[2] - far, near : x.shape[3] - far]
    if like:
        sizes = (like[0].shape[2], like[0].shape[3])
    height, width = sizes or [interpolated_size(size, shrink, zoom) for size in x.shape[2:]]
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


@register_layer("Interp", param="interp_param")
class Interp(Layer):
    """Resize height and width of a 4-D bottom bilinearly, with aligned corners.

    To ``height`` and ``width``, or to ``(size - 1) / shrink_factor + 1``, then
    ``size + (size - 1)(zoom_factor - 1)``; one of the two factors alone goes before the sizes.
    Negative ``pad_beg`` and ``pad_end`` crop the bottom first. A second bottom gives the height and
    width instead; it has no gradient.
    """

    bottoms = Arity(1, 2)
    function = staticmethod(interp)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read which of the forms the file gives."""
        options = self.options
        self.crop = (-options.pad_beg, -options.pad_end)
        self.shrink, self.zoom = options.shrink_factor, options.zoom_factor
        if min(self.crop) < 0:
            raise self.error(
                f"pad_beg {options.pad_beg}, pad_end {options.pad_end}",
                expected="numbers of at most 0, which crop",
            )
        if min(self.shrink, self.zoom) < 1:
            raise self.error(
                f"shrink_factor {self.shrink}, zoom_factor {self.zoom}", expected="at least 1"
            )
        factors = [options.HasField(f) for f in ("shrink_factor", "zoom_factor")]
        given = options.HasField("height") and options.HasField("width")
        if len(bottom_shapes) == 1 and not given and not any(factors):
            raise self.error("no size", expected="height and width, or a factor")
        self.sizes = None
        if given and sum(factors) != 1:
            self.sizes = (options.height, options.width)
            if min(self.sizes) < 1:
                raise self.error(f"height and width {self.sizes}", expected="at least 1")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the resized shape."""
        shape, lost = bottom_shapes[0], sum(self.crop)
        if len(shape) != 4 or min(shape[2:]) <= lost:
            raise self.error(
                f"bottom of shape {shape}", expected=f"4 axes, height and width above {lost}"
            )
        if len(bottom_shapes) == 2:
            if len(bottom_shapes[1]) != 4:
                raise self.error(f"second bottom of shape {bottom_shapes[1]}", expected="4 axes")
            return [(*shape[:2], *bottom_shapes[1][2:])]
        sizes = self.sizes or [
            interpolated_size(size - lost, self.shrink, self.zoom) for size in shape[2:]
        ]
        return [(*shape[:2], *sizes)]
