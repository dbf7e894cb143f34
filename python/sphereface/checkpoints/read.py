"""Any checkpoint as a state dict in our own layout, its format told by its content."""

from __future__ import annotations

import os

from torch import Tensor

from sphereface.checkpoints.clcarwin import from_clcarwin, is_clcarwin
from sphereface.checkpoints.safetensors import read_safetensors
from sphereface.checkpoints.state_dict import read_state_dict
from sphereface.weights import weight_format

__all__ = ["read_checkpoint"]


def read_checkpoint(path: str | os.PathLike[str], *, clcarwin: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file by key.

    clcarwin's sphere20a, known by its keys and shapes or by `clcarwin`, comes with fc6 as Caffe has
    it: a row a class.

    Raises
    ------
    SphereFaceError
        The file is neither, is damaged, or holds more than tensors.
    """
    safe = weight_format(path) == "safetensors" or os.fspath(path).endswith(".safetensors")
    state = read_safetensors(path) if safe else read_state_dict(path)
    if clcarwin or is_clcarwin(state):
        return from_clcarwin(state, os.fspath(path))
    return state
