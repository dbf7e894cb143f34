"""Starting from trained weights.

Source: CopyLayers of Caffe's tools/caffe.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sphereface.caffe import Net

__all__ = ["start_from"]


def start_from(
    names: str | os.PathLike[str] | Mapping[str, Sequence[Any]], net: Net, test_nets: Iterable[Net]
) -> list[str]:
    """Copy trained weights into the nets of a solver.

    Parameters
    ----------
    names : path or mapping
        Caffemodels, binary or HDF5, separated by commas; or {layer name: [arrays]}. Layers that a
        file lacks stay as they are.
    net, test_nets : Net, iterable of Net
        The nets.

    Returns
    -------
    list of str
        Which layers were ignored or not found, a line each.
    """
    sources = [names] if isinstance(names, Mapping) else os.fspath(names).split(",")
    loaded: set[str] = set()
    left: set[str] = set()
    lines = []
    for source in sources:
        report = net.copy_from(source)
        for test_net in test_nets:
            test_net.copy_from(source)
        lines += [f"Ignoring source layer {name}" for name in report.skipped]
        loaded |= report.loaded.keys()
        left |= report.left.keys()
    if not loaded:
        lines.append("Warning: the weights have no layer of the net's; nothing was copied")
    elif left - loaded:
        lines.append(f"Not in the weights, left as they were: {', '.join(sorted(left - loaded))}")
    return lines
