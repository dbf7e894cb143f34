"""Building the torch net that a ``caffe.Net`` runs.

Source: Caffe's Net::Init. What differs from `sphereface.caffe.load`: Caffe's Splits are put in, and
Python layers may come from any module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from sphereface import caffe
from sphereface.caffe.graph import build_graph
from sphereface.caffe.python_class import as_caffe, importing_allowed
from sphereface.caffe.registry import layer_class, layer_types
from sphereface.proto.net_file import read_net
from sphereface.proto.state_rules import phase_number
from sphereface.pycaffe.splits import insert_splits

__all__ = ["build_net"]


def build_net(
    network_file: str | os.PathLike[str],
    phase: int | str,
    level: int = 0,
    stages: Iterable[str] = (),
    *,
    fill: bool = True,
) -> caffe.Net:
    """Build a net with Caffe's Split layers, as `Net` needs it.

    Modules of Python layers are imported, as Caffe does, and find this package by ``import caffe``.
    """
    layer_types()  # layers bring their parameter messages; the text is read with all of them
    number = phase_number(phase)
    file = read_net(network_file, number, level, stages)
    message, origin = insert_splits(file.net)

    def where(index: int) -> str:
        if origin[index] >= 0:
            return file.where(origin[index])
        return f'{file.source}: layer "{message.layer[index].name}" (Split)'

    graph = build_graph(message, layer_class, where)
    with importing_allowed(True), as_caffe(sys.modules["sphereface.pycaffe"]):
        return caffe.Net(graph, phase="TEST" if number else "TRAIN", fill=fill)
