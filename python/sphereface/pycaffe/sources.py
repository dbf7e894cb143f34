"""Where the tops of data layers come from in a forward.

Source: Caffe's memory_data_layer.cpp and base_data_layer.cpp. An Input keeps what the program wrote
into its blobs. What differs: a data layer opens its files at its first forward, not when the net is
built, so a net whose data are elsewhere can be fed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sphereface import data
from sphereface.caffe import Layer
from sphereface.errors import SphereFaceError
from sphereface.pycaffe.blob import Blob

__all__ = ["FileSource", "MemorySource", "Source", "source_of"]


class Source(Protocol):
    """Writes the next batch into a data layer's tops."""

    def feed(self, tops: Sequence[Blob]) -> None:
        """Write the next batch."""

    def state(self) -> Mapping[str, Any]:
        """Return where the source is, for a solver's snapshot."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""


def source_of(layer: Layer) -> Source | None:
    """Return what feeds a data layer; None for an Input, whose blobs stay as they are."""
    if layer.type == "Input":
        return None
    return MemorySource(layer) if layer.type == "MemoryData" else FileSource(layer)


class MemorySource:
    """The batches of the arrays given to ``net.set_input_arrays``, round and round."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        options = layer.options
        self.shape = (options.batch_size, options.channels, options.height, options.width)
        self.arrays: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.position = 0

    def set(self, images: Any, labels: Any) -> None:
        """Use `images` (N, C, H, W) and `labels` (N, 1, 1, 1), without a copy.

        Raises
        ------
        SphereFaceError
            Arrays that Caffe refuses: of another type or shape than the layer's, not C-contiguous,
            or of a number that is no multiple of the batch size.
        """
        self._check("data array", images, self.shape[1:])
        self._check("labels array", labels, (1, 1, 1))
        batch = self.shape[0]
        if len(images) != len(labels):
            raise self.layer.error(
                f"{len(images)} images and {len(labels)} labels",
                expected="data and labels of the same first dimension",
            )
        if not len(images) or len(images) % batch:
            raise self.layer.error(
                f"{len(images)} images",
                expected=f"a multiple of batch_size {batch} (first dimensions of input arrays)",
            )
        self.arrays, self.position = (images, labels), 0

    def feed(self, tops: Sequence[Blob]) -> None:
        """Write the next batch."""
        if self.arrays is None:
            raise self.layer.error("no data", fix="call net.set_input_arrays(data, labels) first")
        images, labels = self.arrays
        batch = slice(self.position, self.position + self.shape[0])
        tops[0].reshape(*self.shape)
        tops[0].data[...] = images[batch]
        tops[1].reshape(self.shape[0])
        tops[1].data[...] = labels[batch, 0, 0, 0]
        self.position = batch.stop % len(images)

    def state(self) -> Mapping[str, Any]:
        """Return which sample is next."""
        return {"position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on there, with arrays that `set` is given before the next forward or has been."""
        self.position = state["position"]

    def _check(self, what: str, array: Any, sizes: tuple[int, ...]) -> None:
        array_ok = (
            isinstance(array, np.ndarray)
            and array.dtype == np.float32
            and array.flags.c_contiguous
            and array.shape[1:] == sizes
        )
        if not array_ok:
            kind = getattr(array, "dtype", type(array).__name__)
            raise self.layer.error(
                f"{what} of {kind}, shape {getattr(array, 'shape', None)}",
                expected=f"float32, C contiguous, 4-d: (N, {', '.join(map(str, sizes))})",
            )


class FileSource:
    """The files that a data layer names, read by `sphereface.data`.

    Order and augmentation follow from torch's random numbers (`set_random_seed`).
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    @cached_property
    def reader(self) -> data.Source:
        """The open files.

        Raises
        ------
        SphereFaceError
            They cannot be read.
        """
        names = ", ".join(self.layer.layer_param.top)
        try:
            return data.open_source(
                self.layer.layer_param,
                self.layer.where,
                phase="TRAIN" if self.layer.training else "TEST",
                seed=int(torch.randint(2**31, ())),
            )
        except SphereFaceError as error:
            by_hand = f"or write the blobs ({names}) and run net.forward(start=<the next layer>)"
            raise SphereFaceError(
                error.problem,
                where=error.where,
                expected=error.expected,
                fix=f"{error.fix}; {by_hand}" if error.fix else by_hand,
            ) from None

    def feed(self, tops: Sequence[Blob]) -> None:
        """Write the next batch."""
        batch = self.reader.next_batch()
        for name, top in zip(self.layer.layer_param.top, tops, strict=True):
            top.reshape(*batch[name].shape)
            top.data[...] = batch[name]

    def state(self) -> Mapping[str, Any]:
        """Return which batch is next."""
        return self.reader.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.reader.restore(state)
