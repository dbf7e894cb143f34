"""State dicts in `.pt` and `.pth` files.

Source: torch.save of a plain dict of tensors. What differs from torch.load: files are read with
``weights_only``, so that a file never runs code, and anything but tensors by key is refused.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path, open_regular

__all__ = ["read_state_dict", "write_state_dict"]

# What torch.nn.DataParallel, DistributedDataParallel and torch.compile put before every key.
_WRAPPERS = ("module.", "_orig_mod.")
# Under what the state dict stands in a checkpoint with more.
_OUTER = ("state_dict", "model")


def write_state_dict(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write tensors as a `.pt` file that ``torch.load(path, weights_only=True)`` reads."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def read_state_dict(path: str | os.PathLike[str], part: str = "backbone") -> dict[str, Tensor]:
    """Return the tensors of a `.pt` or `.pth` file by key.

    A checkpoint that holds its state dict under ``"state_dict"`` or ``"model"``, and the prefixes
    of DataParallel and torch.compile, are unwrapped. Of one that holds the state dicts of
    ``"backbone"`` and ``"head"`` (OpenSphere) `part` is taken.

    Raises
    ------
    SphereFaceError
        The file is no state dict, is damaged, or holds objects that are made by running code.
    """
    where = os.fspath(path)
    open_regular(path, "state dict").close()
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
    except OSError as error:
        raise SphereFaceError(f"cannot be read ({error.strerror or error})", where=where) from None
    except Exception as error:  # what torch.load raises on damaged files is not documented
        raise SphereFaceError(
            "damaged, or no PyTorch file: " + _first_line(error),
            where=where,
            expected="a state dict that torch.save wrote",
        ) from None
    for key in _OUTER:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if isinstance(loaded, Mapping) and isinstance(loaded.get("backbone"), Mapping):
        loaded = loaded.get(part)
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


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            return _unwrapped({key.removeprefix(prefix): t for key, t in state.items()})
    return dict(state)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
