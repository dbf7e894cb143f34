"""Correlation: FlowNet's layer, which is refused by name.

Source: correlation_layer.cpp of the Caffe fork of FlowNet (Dosovitskiy et al., ICCV 2015). What
differs: its nets are read and drawn, and not run; optical flow is nothing that this project is for.
"""

from __future__ import annotations

from collections.abc import Sequence

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Correlation"]


@register_layer("Correlation", param="correlation_param")
class Correlation(Layer):
    """Products of the patches of two images, for every displacement: refused."""

    bottoms = exactly(2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Raise the error that names the layer."""
        raise self.error(
            "FlowNet's Correlation is not run",
            expected="a net without it",
            fix="a layer of your own of this type is added with sphereface.caffe.register_layer",
        )
