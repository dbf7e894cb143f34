"""OpenSphere's heads: class weights and, of some, a bias, for the losses of the margin family.

Source: github.com/ydwen/opensphere. Its heads hold ``w``, a column a class in the repository's
first form and a row a class in its second, and ``b``: one number (SphereFace2) or one a class
(SoftmaxLoss).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor

from sphereface.checkpoints.state_dict import read_state_dict
from sphereface.errors import SphereFaceError

__all__ = ["read_head", "refuse_head"]

_TOLD = 'a head of OpenSphere: "w" of two axes and, of some, "b"'


def read_head(
    path: str | os.PathLike[str], classes: int, features: int, rows: str = ""
) -> dict[str, Tensor]:
    """Return ``weight`` (classes, features) and, if there, ``bias`` of a head.

    Parameters
    ----------
    path : path-like
        ``head_*.pth``, or a checkpoint that holds backbone and head.
    classes, features : int
        N and K.
    rows : {"", "classes", "features"}
        What the rows of the file's ``w`` are, where N = K does not tell.

    Raises
    ------
    SphereFaceError
        The file is no such head, or one of other sizes.
    """
    where, state = os.fspath(path), read_state_dict(path, "head")
    if not _is_head(state):
        raise SphereFaceError(f"holds {_listed(state)}", where=where, expected=_TOLD)
    if rows not in ("", "classes", "features"):
        raise SphereFaceError(f'rows "{rows}"', expected='"classes" or "features"')
    weight, shape = state["w"], tuple(state["w"].shape)
    fitting = [
        name
        for name, wanted in (("classes", (classes, features)), ("features", (features, classes)))
        if shape == wanted and rows in ("", name)
    ]
    if not fitting:
        raise SphereFaceError(
            f'"w" has shape {shape}',
            where=where,
            expected=f"{classes} classes and {features} features",
        )
    if len(fitting) > 1:
        raise SphereFaceError(
            f'"w" has shape {shape}, which does not tell features from classes',
            where=where,
            fix='pass rows="features" (the repository until 2022) or rows="classes"',
        )
    found = {"weight": weight if fitting == ["classes"] else weight.t().contiguous()}
    if "b" in state:
        if state["b"].numel() not in (1, classes):
            raise SphereFaceError(
                f'"b" has shape {tuple(state["b"].shape)}',
                where=where,
                expected=f"1 or {classes} values",
            )
        found["bias"] = state["b"].flatten()
    return found


def refuse_head(state: Mapping[str, Tensor], where: str) -> None:
    """Raise if a state dict, where a net's should be, is that of a head.

    Raises
    ------
    SphereFaceError
        It is.
    """
    if _is_head(state):
        raise SphereFaceError(
            f'a head of OpenSphere, "w" {tuple(state["w"].shape)}',
            where=where,
            expected="a backbone, or any net",
            fix="sphereface.convert.load_head puts it into a loss of sphereface.nn",
        )


def _is_head(state: Mapping[str, Tensor]) -> bool:
    return "w" in state and state.keys() <= {"w", "b"} and state["w"].dim() == 2


def _listed(state: Mapping[str, Tensor]) -> str:
    keys = [f'"{key}" {tuple(tensor.shape)}' for key, tensor in state.items()]
    return ", ".join(keys[:4]) + f" and {len(keys) - 4} more" * (len(keys) > 4)
