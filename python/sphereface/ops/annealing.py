"""lambda(iteration) = max(lambda_min, base (1 + gamma iteration)^-power) on the device.

Source: margin_inner_product_layer of SphereFace's Caffe. There lambda is computed on the host in
every forward; here it stays a tensor, so that a step needs no synchronisation and can be captured
in a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sphereface.ops._library import call

__all__ = ["annealed_lambda"]


def annealed_lambda(
    iteration: Tensor,
    base: float = 1.0,
    gamma: float = 0.0,
    power: float = 1.0,
    lambda_min: float = 0.0,
) -> Tensor:
    """Return the annealing weight after `iteration` forwards.

    Parameters
    ----------
    iteration : Tensor of shape (), int64
        How many forwards there have been, the current one included.
    base, gamma, power, lambda_min : float
        As in ``margin_inner_product_param``.

    Returns
    -------
    Tensor of shape (), float32
        On the device of `iteration`.

    Raises
    ------
    RuntimeError
        `iteration` is not one int64 value.

    Examples
    --------
    >>> annealed_lambda(torch.tensor(501), base=1000, gamma=0.12, lambda_min=5)
    tensor(16.3613)
    """
    operator = torch.ops.sphereface.annealed_lambda
    lambda_: Tensor = call(operator, iteration, base, gamma, power, lambda_min)
    return lambda_


@torch.library.register_fake("sphereface::annealed_lambda")
def _(iteration: Tensor, base: float, gamma: float, power: float, lambda_min: float) -> Tensor:
    return iteration.new_empty((), dtype=torch.float32)
