"""State dicts: `.pt` files, and a state dict into a net with errors that name every key.

Source: torch.save of ``Net.state_dict()``, a plain dict of tensors. What differs from
Module.load_state_dict: nothing is changed when anything does not fit, errors give nearest names and
both shapes, and buffers that are no Caffe blobs (a count of forwards) may be missing. Files are
read with ``weights_only``: a file never runs code.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError, nearest
from sphereface.files import atomic_path

__all__ = ["load_state_dict", "net_state", "read_state_dict", "write_state_dict"]

# What torch.nn.DataParallel, DistributedDataParallel and torch.compile put before every key.
_WRAPPERS = ("module.", "_orig_mod.")


def net_state(net: Net) -> dict[str, Tensor]:
    """Return the tensors of `net` by key, detached and on the CPU; shared blobs are one tensor."""
    return {key: tensor.detach().cpu() for key, tensor in net.state_dict().items()}


def write_state_dict(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write tensors as a `.pt` file that ``torch.load(path, weights_only=True)`` reads."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a `.pt` or `.pth` file by key.

    A checkpoint that holds its state dict under ``"state_dict"``, and the prefixes of DataParallel
    and torch.compile, are unwrapped.

    Raises
    ------
    SphereFaceError
        The file is no state dict, is damaged, or holds objects that are made by running code.
    """
    where = os.fspath(path)
    try:
        with warnings.catch_warnings():
            # Of a pickle's protocol, before the pickle is refused.
            warnings.simplefilter("ignore", UserWarning)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SphereFaceError(
            "the file holds more than tensors, or is no PyTorch file: " + _first_line(error),
            where=where,
            expected="a state dict",
            fix="in a program that trusts it, save model.state_dict() and convert that",
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise SphereFaceError(
            "damaged, or no PyTorch file: " + _first_line(error),
            where=where,
            expected="a state dict that torch.save wrote",
        ) from None
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise SphereFaceError(
            f"a {type(loaded).__name__}" if not isinstance(loaded, Mapping) else "an empty dict",
            where=where,
            expected="a dict of tensors by key",
        )
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise SphereFaceError(
                f"entry {key!r} is a {type(value).__name__}",
                where=where,
                expected="a tensor under every key",
                fix="save model.state_dict() alone",
            )
    return _unwrapped(loaded)


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


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            return _unwrapped({key.removeprefix(prefix): t for key, t in state.items()})
    return dict(state)


def _hinted(problem: str, key: str, others: set[str]) -> str:
    hint = nearest(key, sorted(others))
    return f"{problem} ({hint})" if hint else problem


def _text(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
