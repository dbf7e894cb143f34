"""A net's state dict, and a state dict into a net with errors that name every key.

What differs from Module.load_state_dict: nothing is changed when anything does not fit, errors give
nearest names and both shapes, and buffers that are no Caffe blobs (a count of forwards) may be
missing, or be those that a layer saves in the other phase only, and are left out then.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError, nearest

__all__ = ["load_state_dict", "net_state"]


def net_state(net: Net) -> dict[str, Tensor]:
    """Return the tensors of `net` by key, detached and on the CPU; shared blobs are one tensor."""
    return {key: tensor.detach().cpu() for key, tensor in net.state_dict().items()}


def load_state_dict(net: Net, state: Mapping[str, Tensor], where: str = "") -> None:
    """Copy a state dict into `net`.

    Parameters
    ----------
    net : Net
        Its parameters and buffers are overwritten.
    state : mapping of str to Tensor
        Keys as in ``net.state_dict()``, in any float type.
    where : str
        The file, for errors.

    Raises
    ------
    SphereFaceError
        Keys are missing or unexpected, or shapes differ; `net` is unchanged then.
    """
    own = net.state_dict()
    blobs = {
        f"{key}.{name}"
        for key, layer in zip(net.keys, net.layers, strict=True)
        for name in layer.blob_names
    }
    unsaved = {
        f"{key}.{name}"
        for key, layer in zip(net.keys, net.layers, strict=True)
        for name in layer._non_persistent_buffers_set
    }
    state = {key: tensor for key, tensor in state.items() if key in own or key not in unsaved}
    problems = []
    for key in own:
        if key in blobs and key not in state:
            problems.append(
                _hinted(f'no "{key}" {_text(own[key])}', key, state.keys() - own.keys())
            )
    for key, tensor in state.items():
        if key not in own:
            problems.append(
                _hinted(f'unexpected "{key}" {_text(tensor)}', key, own.keys() - state.keys())
            )
        elif tensor.shape != own[key].shape:
            problems.append(
                f'"{key}" has shape {_text(tensor)} in the file and {_text(own[key])} in the net'
            )
        elif own[key].is_floating_point() != tensor.is_floating_point():
            problems.append(f'"{key}" is {tensor.dtype}, in the net {own[key].dtype}')
    if problems:
        raise SphereFaceError(
            "; ".join(problems),
            where=where,
            expected=f'the parameters of net "{net.name}"',
            fix="convert with the prototxt that the state dict was made from",
        )
    with torch.no_grad():
        for key, tensor in state.items():
            own[key].copy_(tensor)
    for layer in net.layers:
        layer.drop_fillers()


def _hinted(problem: str, key: str, others: set[str]) -> str:
    hint = nearest(key, sorted(others))
    return f"{problem} ({hint})" if hint else problem


def _text(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
