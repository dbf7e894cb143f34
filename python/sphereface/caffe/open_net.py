"""A net together with its data: the one door for all that runs a net on its own data layers.

Source: Caffe's Net::Init, where each data layer opens its files. What differs: the data are opened
first, because they tell the shapes of the tops; whoever runs the net draws the batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sphereface.caffe.batch_source import BatchSource, OpenSource
from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Phase, Shape
from sphereface.caffe.load import build_net, load_graph, own_weights
from sphereface.caffe.net import Net
from sphereface.caffe.registry import is_shipped
from sphereface.data import Sources, open_sources

__all__ = ["DataOptions", "OpenNet", "open_net"]


@dataclass(frozen=True)
class DataOptions:
    """How the files of data layers are read.

    Attributes
    ----------
    workers : int, optional
        Threads; one a core if not given, 0 for none.
    skip_bad_images : bool
        Count images that cannot be read, and put the next in their place.
    seed : int, optional
        Of order and augmentation; random if not given, which several ranks do not allow.
    rank, ranks : int
        Which part of a train net's batches this process takes. A test net is read whole by each.
    exif : bool
        Turn pictures upright as EXIF tells.
    """

    workers: int | None = None
    skip_bad_images: bool = False
    seed: int | None = None
    rank: int = 0
    ranks: int = 1
    exif: bool = True

    def __call__(self, graph: NetGraph, phase: Phase) -> Sources | None:
        """Open what the data layers of a net read; None if it has none."""
        shared = phase == "TRAIN"
        return open_sources(
            (
                (node.param, node.where)
                for node in graph.nodes
                if is_shipped(node.type, node.layer_class)  # one from outside reads its own
            ),
            phase=phase,
            rank=self.rank if shared else 0,
            ranks=self.ranks if shared else 1,
            seed=self.seed,
            workers=self.workers,
            bad_images="skip" if self.skip_bad_images else "raise",
            exif=self.exif,
        )


@dataclass
class OpenNet:
    """A built net and the source of its batches; a context manager that closes the source.

    Attributes
    ----------
    net : Net
        The net.
    source : BatchSource or None
        None for a net without data layers, or one whose data were not asked for.
    """

    net: Net
    source: BatchSource | None = None

    def close(self) -> None:
        """End the threads and close the files of the data."""
        _close(self.source)

    def __enter__(self) -> OpenNet:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def open_net(
    prototxt: str | os.PathLike[str] | Any,
    *,
    phase: Phase = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    weights: str | os.PathLike[str] | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    data: OpenSource | None = None,
    allow_python: bool | Iterable[str] = (),
    fill: bool | None = None,
    generator: torch.Generator | None = None,
) -> OpenNet:
    """Build a net and open its data.

    Parameters
    ----------
    prototxt : path, str, NetParameter, NetFile or NetGraph
        As for `sphereface.caffe.load`; or what `load_file` or `load_graph` returned, which is not
        read again. Of a NetGraph `level` and `stages` are settled already.
    phase, level, stages, weights, allow_python, generator
        As for `sphereface.caffe.load`.
    input_shapes : mapping of str to shape, optional
        Sizes of inputs instead of those that the data or the file tell.
    data : DataOptions or callable, optional
        How to read the data layers' files; or ``data(graph, phase)``, which returns a `BatchSource`
        of the program's own. Without it no data are opened, and `source` is None.
    fill : bool, optional
        Run the fillers, or with False leave zeros where `weights` give nothing; by default the
        fillers run if there are no weights, neither `weights` nor in `prototxt` itself.

    Returns
    -------
    OpenNet

    Raises
    ------
    SphereFaceError
        Anything that Caffe would refuse, with file, line and layer; or data that cannot be read.

    Examples
    --------
    >>> with open_net("net.prototxt", weights="x.caffemodel", data=DataOptions()) as opened:
    ...     outputs = opened.net(draw(opened.source, opened.net))  # doctest: +SKIP
    """
    graph = (
        prototxt if isinstance(prototxt, NetGraph) else load_graph(prototxt, phase, level, stages)
    )
    if weights is None and fill is None:
        weights = own_weights(prototxt)
    source = data(graph, phase) if data is not None else None
    try:
        shapes = {**(source.shapes if source is not None else {}), **(input_shapes or {})}
        net = build_net(
            graph,
            phase,
            own_weights(prototxt) if weights is None else weights,
            input_shapes=shapes,
            fill=fill,
            generator=generator,
            allow_python=allow_python,
        )
    except BaseException:
        _close(source)
        raise
    return OpenNet(net, source)


def _close(source: BatchSource | None) -> None:
    close = getattr(source, "close", None)  # a source that a program made need not have one
    if close is not None:
        close()
