"""Where the tops of data layers come from in a forward: the readers of `sphereface.data`.

Source: Caffe's memory_data_layer.cpp and base_data_layer.cpp. What differs: a data layer opens its
files at its first forward, not when the net is built, so a net whose data are elsewhere can be fed
by hand. Order and augmentation follow from torch's random numbers (`set_random_seed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sphereface import data
from sphereface.caffe import Layer
from sphereface.caffe.blob import Blob
from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Phase, Shape
from sphereface.errors import SphereFaceError

__all__ = ["LayerSources", "feed", "lazy_sources", "set_arrays"]


class LayerSources:
    """What feeds a net's data layers, as one source for snapshots; the layers draw themselves."""

    def __init__(self, sources: data.Sources) -> None:
        self.shapes: Mapping[str, Shape] = {}  # no file is opened to tell them
        self.members = sources.members
        self.state, self.restore, self.close = sources.state, sources.restore, sources.close

    def next_batch(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def lazy_sources(graph: NetGraph, phase: Phase) -> LayerSources:
    """Return what feeds the data layers of a net: `data` of `sphereface.caffe.open_net`."""

    def lazy(layer_param: Any, where: str, **options: Any) -> data.Source:
        if layer_param.type == "MemoryData":
            return data.open_source(layer_param, where, **options)
        return data.LazySource(
            layer_param,
            where,
            lambda: data.open_source(
                layer_param, where, **{**options, "seed": int(torch.randint(2**31, ()))}
            ),
        )

    layers = ((node.param, node.where) for node in graph.nodes)
    return LayerSources(data.open_sources(layers, opening=lazy, phase=phase) or data.Sources({}))


def feed(source: data.Source, layer: Layer, tops: Sequence[Blob]) -> None:
    """Write the next batch of `source` into the tops of a data layer.

    Raises
    ------
    SphereFaceError
        The data cannot be read, or none were set.
    """
    names = layer.layer_param.top
    if isinstance(source, data.MemoryData) and not source.state():
        raise layer.error("no data", fix="call net.set_input_arrays(data, labels) first")
    try:
        batch = source.next_batch()
    except SphereFaceError as error:
        by_hand = (
            f"or write the blobs ({', '.join(names)}) and run net.forward(start=<the next layer>)"
        )
        raise error.at("", fix=f"{error.fix}; {by_hand}" if error.fix else by_hand) from None
    for name, top in zip(names, tops, strict=True):
        top.reshape(*batch[name].shape)
        top.data[...] = batch[name]


def set_arrays(source: data.MemoryData, layer: Layer, images: Any, labels: Any) -> None:
    """Give a MemoryData layer `images` (N, C, H, W) and `labels` (N, 1, 1, 1), without a copy.

    Raises
    ------
    SphereFaceError
        Arrays that Caffe refuses: of another type or shape than the layer's, not C-contiguous, or
        of a number that is no multiple of the batch size.
    """
    options = layer.options
    _check(layer, "data array", images, (options.channels, options.height, options.width))
    _check(layer, "labels array", labels, (1, 1, 1))
    if len(images) != len(labels):
        raise layer.error(
            f"{len(images)} images and {len(labels)} labels",
            expected="data and labels of the same first dimension",
        )
    if not len(images) or len(images) % options.batch_size:
        raise layer.error(
            f"{len(images)} images",
            expected=f"a multiple of batch_size {options.batch_size} "
            "(first dimensions of input arrays)",
        )
    source.set_arrays(images, labels)


def _check(layer: Layer, what: str, array: Any, sizes: tuple[int, ...]) -> None:
    array_ok = (
        isinstance(array, np.ndarray)
        and array.dtype == np.float32
        and array.flags.c_contiguous
        and array.shape[1:] == sizes
    )
    if not array_ok:
        kind = getattr(array, "dtype", type(array).__name__)
        raise layer.error(
            f"{what} of {kind}, shape {getattr(array, 'shape', None)}",
            expected=f"float32, C contiguous, 4-d: (N, {', '.join(map(str, sizes))})",
        )
