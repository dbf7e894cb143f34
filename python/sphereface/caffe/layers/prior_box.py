"""PriorBox: the default boxes of a feature map, with their variances.

Source: prior_box_layer.cpp of SSD's Caffe fork (Liu et al., SSD, ECCV 2016, section 2.2). Sizes
lose their fraction there: ``min_size: 35.84`` is 35. OpenCV's layer of this name keeps it, and
clips the boxes where the file does not say ``clip``. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["PriorBox", "prior_box"]

_SAME_RATIO = 1e-6


def prior_box(
    feature: Tensor,
    image: Tensor,
    *,
    sizes: tuple[tuple[float, float], ...],
    image_size: tuple[int, int] | None,
    step: tuple[float, float] | None,
    offset: float,
    clip: bool,
    variance: tuple[float, ...],
) -> Tensor:
    """Return (1, 2, H * W * boxes * 4): corners in shares of the image, and their variances."""
    height, width = feature.shape[2], feature.shape[3]
    image_height, image_width = image_size or (image.shape[2], image.shape[3])
    step_y, step_x = step or (image_height / height, image_width / width)
    # Half precision has no digits for positions.
    dtype, device = torch.promote_types(feature.dtype, torch.float32), feature.device
    y = (torch.arange(height, dtype=dtype, device=device) + offset) * (step_y / image_height)
    x = (torch.arange(width, dtype=dtype, device=device) + offset) * (step_x / image_width)
    half = torch.tensor(sizes, dtype=dtype, device=device) / 2
    across, down = half[:, 0] / image_width, half[:, 1] / image_height
    grid = (height, width, len(sizes))
    corners = torch.stack(
        [
            (x[:, None] - across).expand(grid),
            (y[:, None, None] - down).expand(grid),
            (x[:, None] + across).expand(grid),
            (y[:, None, None] + down).expand(grid),
        ],
        3,
    )
    if clip:
        corners = corners.clamp(0, 1)
    variances = torch.tensor(variance, dtype=dtype, device=device).expand(corners.shape)
    return torch.stack([corners.reshape(-1), variances.reshape(-1)])[None]


@register_layer("PriorBox", param="prior_box_param")
class PriorBox(Layer):
    """Boxes of several sizes and shapes around each position of a feature map.

    Bottoms: the feature map, of which only the size counts, and the image. Each ``min_size`` gives
    a square, with a ``max_size`` one of ``sqrt(min_size max_size)``, and for every other
    ``aspect_ratio`` r (and 1 / r with ``flip``) a box of ``min_size sqrt(r)`` by
    ``min_size / sqrt(r)``. ``img_size`` or ``img_h`` and ``img_w`` replace the image's size,
    ``step`` or ``step_h`` and ``step_w`` the distance of positions, image size / map size; the
    first position is at ``offset`` (0.5) steps. ``clip`` cuts boxes at the image's border. Top:
    (1, 2, H W boxes 4), xmin, ymin, xmax, ymax in shares of the image's size, and ``variance``.
    """

    bottoms = exactly(2)
    function = staticmethod(prior_box)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Compute width and height of the boxes of a position."""
        options = self.options
        self.offset, self.clip = options.offset, options.clip
        self.image_size = self._pair("img")
        self.step = self._pair("step")
        variance = tuple(options.variance) or (0.1,)
        if len(variance) not in (1, 4) or min(variance) <= 0:
            raise self.error(f"variance {variance}", expected="one or four positive numbers")
        self.variance = variance * (4 // len(variance))
        self.sizes = self._sizes()

    def _pair(self, stem: str) -> tuple[float, float] | None:
        """Return an option that is written once, or as _h and _w; None for what is not given."""
        options, name = self.options, {"img": "img_size"}.get(stem, stem)
        sides = (f"{stem}_h", f"{stem}_w")
        if not any(options.HasField(side) for side in sides):
            pair = (getattr(options, name),) * 2 if options.HasField(name) else None
        else:
            pair = (getattr(options, sides[0]), getattr(options, sides[1]))
            if options.HasField(name) or min(pair) <= 0:
                raise self.error(
                    f"{name}, {sides[0]} and {sides[1]} are mixed",
                    expected=f"{name}, or both {sides[0]} and {sides[1]}",
                )
        if pair is not None and min(pair) <= 0:
            raise self.error(f"{name} {pair[0]:g}", expected="a positive number")
        return pair

    def _sizes(self) -> tuple[tuple[float, float], ...]:
        options = self.options
        least, most = list(options.min_size), list(options.max_size)
        if not least or min(least) < 1:
            raise self.error(f"min_size {least}", expected="at least one size, in pixels")
        if most and (
            len(most) != len(least) or any(b <= a for a, b in zip(least, most, strict=True))
        ):
            raise self.error(
                f"max_size {most}", expected=f"one for each min_size {least}, larger than it"
            )
        ratios = [1.0]
        for ratio in options.aspect_ratio:
            if ratio <= 0:
                raise self.error(f"aspect_ratio {ratio:g}", expected="a positive number")
            if all(abs(ratio - known) >= _SAME_RATIO for known in ratios):
                ratios += [ratio, 1 / ratio] if options.flip else [ratio]
        sizes = []
        for place, size in enumerate(map(int, least)):
            sides = [float(size)] + [sqrt(size * int(other)) for other in most[place : place + 1]]
            sizes += [(side, side) for side in sides]
            sizes += [(size * sqrt(r), size / sqrt(r)) for r in ratios if abs(r - 1) >= _SAME_RATIO]
        return tuple(sizes)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return (1, 2, H * W * boxes * 4)."""
        for position, shape in enumerate(bottom_shapes):
            if len(shape) != 4:
                raise self.error(
                    f"bottom {position} has shape {shape}", expected="4 axes (N, C, H, W)"
                )
        return [(1, 2, bottom_shapes[0][2] * bottom_shapes[0][3] * len(self.sizes) * 4)]
