"""Opening the net that a ``caffe.Net`` runs.

Source: Caffe's Net::Init. What differs from `sphereface.caffe.open_net`: Caffe's Splits are put in,
Python layers may come from any module, and data are opened when they are first read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from sphereface.caffe import OpenNet, open_net
from sphereface.caffe.graph import NetGraph, build_graph
from sphereface.caffe.load import load_file
from sphereface.caffe.registry import layer_class
from sphereface.caffe.user_layer import as_caffe
from sphereface.proto.net_file import NetFile
from sphereface.proto.state_rules import phase_number
from sphereface.pycaffe.sources import lazy_sources
from sphereface.pycaffe.splits import insert_splits

__all__ = ["open_with_splits"]


def open_with_splits(
    network_file: str | os.PathLike[str] | NetFile,
    phase: int | str,
    level: int = 0,
    stages: Iterable[str] = (),
    *,
    fill: bool = True,
) -> OpenNet:
    """Open a net with Caffe's Split layers, as `Net` needs it.

    Modules of Python layers are imported, as Caffe does, and find this package by ``import caffe``.
    """
    number = phase_number(phase)
    file = network_file if isinstance(network_file, NetFile) else load_file(network_file)
    graph = _graph(file.kept(number, level, stages))
    with as_caffe(sys.modules["sphereface.pycaffe"]):
        return open_net(
            graph,
            phase="TEST" if number else "TRAIN",
            data=lazy_sources,
            allow_python=True,
            fill=fill,
        )


def _graph(file: NetFile) -> NetGraph:
    message, origin = insert_splits(file.net)

    def where(index: int) -> str:
        if origin[index] >= 0:
            return file.where(origin[index])
        return f'{file.source}: layer "{message.layer[index].name}" (Split)'

    return build_graph(
        message,
        layer_class,
        where,
        source=file.source,
        problems=file.problems,
        why_missing=file.why_missing,
    )
