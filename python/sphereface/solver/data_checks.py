"""What can be seen of a net's data before the first iteration.

What differs from Caffe: it looks at nothing, and finds a missing image or a label that is no class
when its turn comes, hours later; unscaled pixels it never finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from sphereface.caffe import Layer, Net
from sphereface.caffe.batch_source import BatchSource
from sphereface.data import ImageData, ImageSource, Sources, check_net_labels
from sphereface.solver.margin_heads import margin_heads

__all__ = ["data_warnings"]

# Scaled pixels are some -1 .. 1, pixels less their mean some -128 .. 128.
_SCALED = 16.0
_WEIGHTED = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "InnerProduct")
_AUTHORS = "transform_param { mean_value: 127.5 scale: 0.0078125 }"


def data_warnings(net: Net, source: BatchSource | None) -> list[str]:
    """Look at the labels, the files and the pixels of a net's data layers; return warnings.

    Raises
    ------
    SphereFaceError
        A label is of no class, or an image of a list is missing.
    """
    if not isinstance(source, Sources):
        return []
    warnings = []
    for member in source.members.values():
        if isinstance(member, ImageData):
            warnings += member.check_files()
    layers = SimpleNamespace(layer=[layer.layer_param for layer in net.layers])
    warnings += check_net_labels(layers, source)
    return [*warnings, *_unscaled(net, source)]


def _unscaled(net: Net, source: Sources) -> Iterator[str]:
    """Warn of pixels that are as large as files hold them, where that is no habit of Caffe's."""
    margin = bool(margin_heads(net))
    for name, member in source.members.items():
        layer = net.layer(name)
        if not isinstance(member, ImageSource) or not _read_by_weights(net, layer):
            continue
        transform = layer.layer_param.transform_param
        centred = bool(transform.mean_file or transform.mean_value)
        image = member.first_image()
        # Nets of the ImageNet age take pixels less their mean, unscaled.
        if np.abs(image).max() > _SCALED and (margin or not centred):
            yield (
                f"{member.where}: pixels reach the net as {image.min():g} .. {image.max():g}; "
                f"SphereFace's nets are trained on -1 .. 1: {_AUTHORS}"
            )


def _read_by_weights(net: Net, layer: Layer) -> bool:
    """Tell whether a layer with weights reads the images as they are: nothing scales them."""
    top = layer.layer_param.top[0]
    return any(
        reader.type in _WEIGHTED and top in reader.layer_param.bottom for reader in net.layers
    )
