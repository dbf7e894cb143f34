"""Embeddings and their labels as the operators take them."""

from __future__ import annotations

import torch
from torch import Tensor

from sphereface.errors import SphereFaceError

__all__ = ["check_rows", "check_tensors", "class_numbers", "first_outside"]

_INTEGERS = (torch.int32, torch.int16, torch.int8, torch.uint8)


def check_tensors(where: str, **arguments: object) -> None:
    """Refuse arguments that are no tensors, by name.

    Raises
    ------
    SphereFaceError
        One is a list, an array or something else.
    """
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise SphereFaceError(
                f"{name} is of type {type(value).__name__}",
                where=where,
                expected="a torch.Tensor",
                fix=f"torch.as_tensor({name})",
            )


def check_rows(where: str, x: Tensor, features: int) -> None:
    """Refuse embeddings that are not (M, `features`).

    Raises
    ------
    SphereFaceError
        They are of another shape.
    """
    if x.dim() != 2 or x.shape[1] != features:
        raise SphereFaceError(
            f"x has shape {tuple(x.shape)}", where=where, expected=f"(M, {features})"
        )


def class_numbers(label: Tensor, x: Tensor, classes: int) -> Tensor:
    """Return the labels as int64.

    Parameters
    ----------
    label : Tensor of shape (M,) of integers
        Class numbers; their range and number are checked by the operators.
    x : Tensor of shape (M, K)
        What they belong to.
    classes : int
        N.

    Raises
    ------
    RuntimeError
        They are no integers, or rows of N numbers each.
    """
    if label.dim() == 2 and label.shape == (x.shape[0], classes):
        raise RuntimeError(
            f"label has shape {tuple(label.shape)}; expected ({x.shape[0]},), one class number for "
            "each row of x; it looks one-hot: pass label.argmax(1)"
        )
    if label.dim() != 1:
        column = label.shape == (x.shape[0], 1)
        raise RuntimeError(
            f"label has shape {tuple(label.shape)}; expected ({x.shape[0]},), one class number for "
            "each row of x" + ("; pass label.squeeze(1)" if column else "")
        )
    if label.dtype in _INTEGERS:
        return label.long()
    if label.dtype != torch.int64:
        name = str(label.dtype).removeprefix("torch.")
        raise RuntimeError(
            f"label has dtype {name}; expected int64, int32, int16, int8 or uint8, class numbers "
            "from 0 on"
        )
    return label


def first_outside(indices: Tensor, count: int) -> int | None:
    """Return the place of the first index that is not in [0, `count`), if one can be seen.

    Parameters
    ----------
    indices : Tensor of integers
        Looked at on the CPU alone, where that waits for nothing, and outside of compilers.
    count : int

    Returns
    -------
    int or None
        An index into the flattened tensor.
    """
    if torch.compiler.is_compiling() or indices.device.type != "cpu" or not indices.numel():
        return None
    low, high = indices.aminmax()
    if low >= 0 and high < count:
        return None
    flat = indices.flatten()
    return int(((flat < 0) | (flat >= count)).nonzero()[0, 0])
