"""Where batches come from: the seam between those who run a net and the readers of its data layers.

A net's data layers are inputs; for each pass whoever runs the net asks a source for their tops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Phase, Shape
from sphereface.caffe.net import Net
from sphereface.errors import SphereFaceError

__all__ = ["Batch", "BatchSource", "Feed", "OpenSource", "as_source", "draw"]

Batch: TypeAlias = Mapping[str, Any]
"""Tops of the data layers by name, tensors or numpy arrays."""


@runtime_checkable
class BatchSource(Protocol):
    """What a reader of data offers; `sphereface.data.Sources` is one."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of tops that the net is to be built for; may be empty where its file tells."""

    def next_batch(self) -> Batch:
        """Return the tops of one pass; StopIteration when there are no more."""

    def state(self) -> Mapping[str, Any]:
        """Return where the source is, in JSON's types and numpy arrays: what is next to be drawn.

        Batches that were read ahead and not yet returned count as not drawn.
        """

    def restore(self, state: Mapping[str, Any]) -> Iterable[str] | None:
        """Go on as the source that returned `state` would have.

        What of the state could not be used, because the data are others now, is returned, a line
        each.
        """


OpenSource: TypeAlias = Callable[[NetGraph, Phase], BatchSource | None]
"""Opens the source of a net that is about to be built; None if it has no data to read."""

Feed: TypeAlias = "BatchSource | Batch | Iterable[Batch]"


class _Repeated:
    """One batch, again and again."""

    def __init__(self, batch: Batch) -> None:
        self.shapes: Mapping[str, Shape] = {}
        self.batch = batch

    def next_batch(self) -> Batch:
        return self.batch

    def state(self) -> Mapping[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


class _Iterated:
    """The batches of an iterator, whose order is its owner's affair."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.shapes: Mapping[str, Shape] = {}
        self.batches = batches

    def next_batch(self) -> Batch:
        return next(self.batches)

    def state(self) -> Mapping[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


def as_source(feed: Feed) -> BatchSource:
    """Return a source of what a program gives: a source, one batch, or batches to iterate over."""
    if isinstance(feed, BatchSource):
        return feed
    if isinstance(feed, Mapping):
        return _Repeated(feed)
    if isinstance(feed, Iterable):
        return _Iterated(iter(feed))
    raise SphereFaceError(
        f"a feed of type {type(feed).__name__}",
        expected="a dict of arrays by input name, an iterable of such dicts, or a batch source",
    )


def draw(source: BatchSource | None, net: Net, device: torch.device) -> dict[str, Tensor]:
    """Return the next batch of `source` as tensors on `device`; empty for a net without inputs.

    Raises
    ------
    SphereFaceError
        The net has inputs and there is no source.
    StopIteration
        The source has no more.
    """
    if source is None:
        if net.inputs:
            raise SphereFaceError(
                f'nothing to feed the inputs {", ".join(net.inputs)} of net "{net.name}"',
                where=f"phase {net.phase}",
                fix="give it data layers that can be read, a source of batches, or a feed",
            )
        return {}
    return {
        name: (torch.from_numpy(value) if isinstance(value, np.ndarray) else value).to(
            device, non_blocking=True
        )
        for name, value in source.next_batch().items()
    }
