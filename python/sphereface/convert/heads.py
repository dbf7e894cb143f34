"""Class weights of other people's heads into the losses of `sphereface.nn`."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from sphereface.checkpoints import read_head
from sphereface.errors import SphereFaceError
from sphereface.nn.fused_loss import FusedLoss

__all__ = ["load_head"]


def load_head(loss: FusedLoss, path: str | os.PathLike[str], rows: str = "") -> None:
    """Copy a head of OpenSphere into a loss module; which head it was only its config tells.

    Parameters
    ----------
    loss : FusedLoss
        The module for the head, with its numbers; docs/convert.md has the list.
    path : path-like
        ``head_*.pth``, or a checkpoint that holds backbone and head.
    rows : {"", "classes", "features"}
        What the rows of the file's ``w`` are, where there are as many of both.

    Raises
    ------
    SphereFaceError
        The file is no head, has other sizes than `loss`, or one of the two has a bias and the other
        has not; `loss` is unchanged then.

    Examples
    --------
    >>> loss = SphereFaceRLoss(512, 8631, margin=1.5, scale=30)  # doctest: +SKIP
    >>> load_head(loss, "head_100000.pth")  # doctest: +SKIP
    """
    classes, features = loss.weight.shape
    state = read_head(path, classes, features, rows)
    own: Tensor | None = getattr(loss, "bias", None)
    given = state.get("bias")
    values = [0 if bias is None else bias.numel() for bias in (given, own)]
    if values[0] != values[1]:
        found, wanted = (f"a bias of {count} values" if count else "no bias" for count in values)
        raise SphereFaceError(
            found,
            where=os.fspath(path),
            expected=wanted,
            fix="docs/convert.md has the module for each head",
        )
    with torch.no_grad():
        loss.weight.copy_(state["weight"])
        if own is not None and given is not None:
            own.copy_(given.reshape(own.shape))
