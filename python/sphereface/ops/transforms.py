"""Refuses forward mode and torch.func's transforms by name, where they would be silently wrong."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["refuse_forward_mode", "refuse_transforms"]


def refuse_forward_mode(name: str, *tensors: Tensor) -> None:
    """Raise an error if a tensor carries a tangent, which an operator would silently drop.

    Raises
    ------
    RuntimeError
        It does.
    """
    if torch.compiler.is_compiling():
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(
            f"{name} has no forward-mode derivative (torch.func.jvp, jacfwd, dual tensors); "
            "differentiate with torch.autograd"
        )


def refuse_transforms(name: str, *tensors: Tensor) -> None:
    """Raise an error in a transform of torch.func, which cannot see what a module writes down.

    Raises
    ------
    RuntimeError
        A tensor belongs to torch.func's grad, jvp or vmap or one of their kin.
    """
    if torch.compiler.is_compiling():
        return
    refuse_forward_mode(name, *tensors)
    functorch = torch._C._functorch
    if any(functorch.is_batchedtensor(tensor) for tensor in tensors):
        raise RuntimeError(
            f"{name} does not work under torch.vmap, for it counts and notes what it sees; give it "
            'all rows at once, with reduction "none" for a loss of each'
        )
    if any(functorch.is_gradtrackingtensor(tensor) for tensor in tensors):
        raise RuntimeError(
            f"{name} does not work under torch.func's grad, vjp, jacrev and hessian; "
            "differentiate with torch.autograd"
        )
