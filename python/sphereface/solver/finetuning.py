"""Starting from trained weights.

Source: CopyLayers of Caffe's tools/caffe.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.weights import MismatchError

__all__ = ["check_weights_names", "start_from"]


def check_weights_names(names: str | os.PathLike[str]) -> None:
    """Refuse solverstates among the files of `start_from`.

    Raises
    ------
    SphereFaceError
        One is, by its name; the error says what takes it.
    """
    for name in os.fspath(names).split(","):
        if name.endswith((".solverstate", ".solverstate.h5", ".solverstate.npz")):
            raise SphereFaceError(
                "the state of a solver",
                where=name,
                expected=f"weights, such as {name.partition('.solverstate')[0]}.caffemodel",
                fix="--snapshot takes the solverstate, and goes on with its run",
            )


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

    Raises
    ------
    SphereFaceError
        A layer has other shapes than the net's; nothing was copied then.
    """
    if not isinstance(names, Mapping):
        check_weights_names(names)
    sources = [names] if isinstance(names, Mapping) else os.fspath(names).split(",")
    loaded: set[str] = set()
    left: set[str] = set()
    lines = []
    for source in sources:
        try:
            report = net.copy_from(source)
        except MismatchError as error:
            first = error.layers[0]
            raise SphereFaceError(
                error.problem,
                where=error.where,
                expected=error.expected,
                fix="to learn a layer anew, give it another name in the net's file "
                f'("{first}_new" for "{first}"); to keep its weights, the num_output and kernels '
                "of the weights",
            ) from None
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
