"""`.pt2`: a net as a program of torch.export, which PyTorch runs without this package.

Source: torch.export.save of the net in phase TEST. Inputs are positional in the order of
``Net.inputs``, the result is a dict of the outputs. Batch size, and on request image sizes, stay
free.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.fx.experimental._config as fx_config

from sphereface.caffe import Net
from sphereface.convert.dynamic import dynamic_shapes
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path

__all__ = ["exported", "write_torch_export"]


def exported(net: Net, where: str, *, images: bool = False) -> torch.export.ExportedProgram:
    """Return `net` as a program whose batch size, and with `images` image sizes, are free.

    Parameters
    ----------
    net : Net
        In the TEST phase.
    where : str
        The file that it is for, for errors.
    images : bool
        Accept other image sizes than those of the prototxt.

    Raises
    ------
    SphereFaceError
        A layer cannot be exported, or with `images` cannot take other sizes.
    """
    shapes, base = dynamic_shapes(net, images), net.blob_shapes
    free: list[dict[int, Any]] = []
    examples = []
    for name, slot in net.graph.inputs.items():
        free.append({a: torch.export.Dim.DYNAMIC for a, s in enumerate(shapes[slot]) if s is None})
        examples.append(torch.zeros([s + (a in free[-1]) for a, s in enumerate(base[name])]))
    try:
        # Without it the program refuses sizes at which any blob's axis is 1, batch 1 among them.
        with fx_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(net, tuple(examples), dynamic_shapes=(tuple(free),))
    except RuntimeError as error:
        raise SphereFaceError(
            f'torch.export cannot take net "{net.name}": {str(error).strip()}', where=where
        ) from error


def write_torch_export(net: Net, path: str | os.PathLike[str], *, images: bool = False) -> None:
    """Write `net` as a `.pt2` file; ``torch.export.load(path).module()(x)`` runs it.

    Parameters
    ----------
    net : Net
        With its weights.
    path : path-like
        File to write; only a finished program replaces it.
    images : bool
        Accept other image sizes than those of the prototxt.

    Raises
    ------
    SphereFaceError
        As `exported`.
    """
    program = exported(net, os.fspath(path), images=images)
    with atomic_path(path) as temporary:
        torch.export.save(program, temporary)
