"""Any checkpoint as a state dict in our own layout, its format told by its content and its keys."""

from __future__ import annotations

import os

from torch import Tensor

from sphereface.checkpoints.clcarwin import from_clcarwin, is_clcarwin
from sphereface.checkpoints.opensphere import (
    from_opensphere,
    is_opensphere,
    opensphere_prototxt,
)
from sphereface.checkpoints.opensphere_heads import refuse_head
from sphereface.checkpoints.safetensors import read_safetensors
from sphereface.checkpoints.state_dict import read_state_dict
from sphereface.errors import SphereFaceError
from sphereface.weights import weight_format

__all__ = ["checkpoint_prototxt", "read_checkpoint"]


def read_checkpoint(path: str | os.PathLike[str], *, clcarwin: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file by key.

    clcarwin's sphere20a, known by its keys and shapes or by `clcarwin`, comes with fc6 as Caffe has
    it: a row a class. OpenSphere's backbones, known by their keys, come as `from_opensphere`
    has them.

    Raises
    ------
    SphereFaceError
        The file is neither, is damaged, or holds more than tensors; or it is a head.
    """
    where, state = os.fspath(path), _read(path)
    if clcarwin or is_clcarwin(state):
        return from_clcarwin(state, where)
    refuse_head(state, where)
    return from_opensphere(state, where) if is_opensphere(state) else state


def checkpoint_prototxt(path: str | os.PathLike[str]) -> str:
    """Return the deploy prototxt of the net that a checkpoint's keys tell: one of OpenSphere's.

    Raises
    ------
    SphereFaceError
        They tell none; or as `read_checkpoint`.
    """
    where, state = os.fspath(path), _read(path)
    refuse_head(state, where)
    if not is_opensphere(state):
        raise SphereFaceError(
            "weights without their net",
            where=where,
            expected="a prototxt, a caffemodel, or a backbone of OpenSphere",
            fix="the prototxt comes before the weights",
        )
    return opensphere_prototxt(state, where)


def _read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    safe = weight_format(path) == "safetensors" or os.fspath(path).endswith(".safetensors")
    return read_safetensors(path) if safe else read_state_dict(path)
