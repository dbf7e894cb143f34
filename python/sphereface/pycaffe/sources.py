"""Where the tops of data layers come from in a forward.

Source: Caffe's memory_data_layer.cpp. An Input keeps what the program wrote into its blobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import Layer
from sphereface.pycaffe.blob import Blob

__all__ = ["MemorySource", "Source", "source_of"]


class Source(Protocol):
    """Writes the next batch into a data layer's tops."""

    def feed(self, tops: Sequence[Blob]) -> None:
        """Write the next batch."""


def source_of(layer: Layer) -> Source | None:
    """Return what feeds a data layer; None for an Input, whose blobs stay as they are."""
    if layer.type == "Input":
        return None
    return MemorySource(layer) if layer.type == "MemoryData" else _NoReader(layer)


class MemorySource:
    """The batches of the arrays given to ``net.set_input_arrays``, round and round."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        options = layer.options
        self.shape = (options.batch_size, options.channels, options.height, options.width)
        self.arrays: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.position = 0

    def set(self, data: Any, labels: Any) -> None:
        """Use `data` (N, C, H, W) and `labels` (N, 1, 1, 1), without a copy.

        Raises
        ------
        SphereFaceError
            Arrays that Caffe refuses: of another type or shape than the layer's, not C-contiguous,
            or of a number that is no multiple of the batch size.
        """
        self._check("data array", data, self.shape[1:])
        self._check("labels array", labels, (1, 1, 1))
        batch = self.shape[0]
        if len(data) != len(labels):
            raise self.layer.error(
                f"{len(data)} images and {len(labels)} labels",
                expected="data and labels of the same first dimension",
            )
        if not len(data) or len(data) % batch:
            raise self.layer.error(
                f"{len(data)} images",
                expected=f"a multiple of batch_size {batch} (first dimensions of input arrays)",
            )
        self.arrays, self.position = (data, labels), 0

    def feed(self, tops: Sequence[Blob]) -> None:
        """Write the next batch."""
        if self.arrays is None:
            raise self.layer.error("no data", fix="call net.set_input_arrays(data, labels) first")
        data, labels = self.arrays
        batch = slice(self.position, self.position + self.shape[0])
        tops[0].reshape(*self.shape)
        tops[0].data[...] = data[batch]
        tops[1].reshape(self.shape[0])
        tops[1].data[...] = labels[batch, 0, 0, 0]
        self.position = batch.stop % len(data)

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


class _NoReader:
    """A data layer whose files nothing reads here."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def feed(self, tops: Sequence[Blob]) -> None:
        names = ", ".join(self.layer.layer_param.top)
        raise self.layer.error(
            "a net in pycaffe does not read the files of a data layer",
            fix=f"write the blobs ({names}) and run net.forward(start=<the next layer>)",
        )
