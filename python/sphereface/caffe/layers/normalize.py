"""Normalize: every position divided by the norm of its channels, or an image by its norm.

Source: normalize_layer.cpp of NormFace's and SphereFace+'s Caffe forks; with ``norm_param`` that of
SSD's fork (ParseNet, Liu et al. 2015), which learns a scale. What differs: bottoms keep their
number of axes, where the forks make them 4-D; the gradient of SSD's layer with a weight a channel
is that of its function, where the original multiplies by the weights too late.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer
from sphereface.proto import schema

__all__ = ["EPSILON", "Normalize", "normalize"]

EPSILON = 1e-6
"""Added to the sum below the root of L2, and to L1; SSD's layer has its own."""


def normalize(
    x: Tensor,
    *,
    weight: Tensor | None,
    normalize_type: str,
    across_spatial: bool,
    eps: float,
    bp_norm: bool,
    top_count: int,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return x over its norm, times the weight if there is one; with two tops the norm too."""
    axes = tuple(range(1, x.dim())) if across_spatial else (1,)
    if normalize_type == "L2":
        norm = (x.square().sum(axes, keepdim=True) + eps).sqrt()
    else:
        norm = x.abs().sum(axes, keepdim=True) + eps
    y = x / norm
    if weight is not None:
        y = y * weight.reshape(-1, *[1] * (x.dim() - 2))
    if top_count == 1:
        return y
    return y, norm if bp_norm else norm.detach()


@register_layer("Normalize", param="normalize_param")
class Normalize(Layer):
    """``y = x / norm`` over axis 1; second top: the norm, with 1 channel.

    ``normalize_type`` "L2": ``norm = sqrt(sum x^2 + 1e-6)``; "L1": ``norm = sum |x| + 1e-6``.
    ``bp_norm: true`` lets the gradient of the second top through.

    With ``norm_param`` it is SSD's layer: ``y = weight x / sqrt(sum x^2 + eps)``, over all axes but
    the first with ``across_spatial`` (the default), and a weight a channel or, with
    ``channel_shared`` (the default), one, filled with 1 by default. It has one top.
    """

    tops = Arity(1, 2)
    function = staticmethod(normalize)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the parameters of either fork."""
        self.canonical_axis(1, bottom_shapes[0])
        self.normalize_type = self.options.normalize_type
        first = self.layer_param.softmax_param  # where the fork's first version had it
        if first.HasField("normalize_type") and not self.options.HasField("normalize_type"):
            self.normalize_type = first.normalize_type
        if self.options.fix_gradient:
            raise self.error("fix_gradient: true", expected="false, the derivative")
        self.bp_norm, self.across_spatial, self.eps = self.options.bp_norm, False, EPSILON
        if self.normalize_type not in ("L1", "L2"):
            raise self.error(f'normalize_type "{self.normalize_type}"', expected='"L1" or "L2"')
        if not self.layer_param.HasField("norm_param"):
            self.weight = None  # type: ignore[assignment]
        else:
            self._set_up_scaled(bottom_shapes[0])

    def _set_up_scaled(self, shape: Shape) -> None:
        options = self.layer_param.norm_param
        if self.layer_param.HasField("normalize_param") or self.top_count == 2:
            raise self.error(
                "norm_param, which is of SSD's Normalize, with normalize_param or a second top,"
                " which are of NormFace's",
                expected="one of them",
            )
        self.across_spatial, self.eps = options.across_spatial, options.eps
        filler = options.scale_filler
        if not options.HasField("scale_filler"):
            filler = schema.message("FillerParameter")(value=1)
        self.add_blob("weight", () if options.channel_shared else (shape[1],), filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the bottom's shape, and that of the norm."""
        shape = bottom_shapes[0]
        return [shape, (shape[0], 1, *shape[2:])][: self.top_count]
