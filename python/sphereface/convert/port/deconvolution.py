"""Deconvolution as a module of torch.nn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphereface.convert.port.convolution import torch_module
from sphereface.convert.port.writer import SourceWriter, source_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers.deconvolution import Deconvolution

__all__ = ["deconvolution"]


@source_layer("Deconvolution")
def deconvolution(writer: SourceWriter, layer: Deconvolution, *bottoms: str) -> str:
    """Write nn.ConvTranspose1d to 3d."""
    return torch_module("ConvTranspose", writer, layer, *bottoms)
