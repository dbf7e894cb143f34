"""How parameter blobs start: Caffe's fillers on Caffe's shapes.

Source: Caffe's filler.hpp; gaussian_unitball is NormFace's, msra's alpha (the slope of the leaky
rectifier behind) of the first version of msra, its scale Intel's. Fans are Caffe's: fan_in is count
/ shape[0] and fan_out count / shape[1] whatever the layer (not PyTorch's, which differ for
transposed weights and never count groups). Numbers are drawn from a torch Generator, so they follow
Caffe's distributions and not its random stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sphereface.errors import SphereFaceError, nearest

__all__ = ["FILLERS", "fan", "fill_"]


def fan(shape: tuple[int, ...], filler: Any) -> float:
    """Return the n of ``variance_norm`` for a blob of `shape`: FAN_IN, FAN_OUT or their mean."""
    count = math.prod(shape)
    fan_in = count / shape[0]
    fan_out = count / shape[1] if len(shape) > 1 else count
    by_norm = {
        filler.FAN_IN: fan_in,
        filler.FAN_OUT: fan_out,
        filler.AVERAGE: (fan_in + fan_out) / 2,
    }
    return by_norm[filler.variance_norm]


def fill_(tensor: Tensor, filler: Any, generator: torch.Generator | None = None) -> Tensor:
    """Fill `tensor` in place by a FillerParameter.

    Parameters
    ----------
    tensor : Tensor
        The blob, in Caffe's shape.
    filler : FillerParameter
        ``type`` and the options of that type.
    generator : torch.Generator, optional
        Source of the random numbers; torch's global one when None.

    Returns
    -------
    Tensor
        `tensor`.

    Raises
    ------
    SphereFaceError
        Unknown type, or a shape or option that the type does not take.
    """
    if filler.type not in FILLERS:
        raise SphereFaceError(
            f'unknown filler type "{filler.type}"',
            expected=f"one of {', '.join(sorted(FILLERS))}",
            fix=nearest(filler.type, FILLERS),
        )
    if filler.sparse != -1 and filler.type != "gaussian":
        raise SphereFaceError(
            f'filler "{filler.type}" with sparse: {filler.sparse}',
            expected='sparse only in filler "gaussian"',
        )
    try:
        with torch.no_grad():
            FILLERS[filler.type](tensor, filler, generator)
    except (RuntimeError, ZeroDivisionError, ValueError) as error:
        # A negative deviation, an empty range, a blob of zero rows.
        raise SphereFaceError(
            f'filler "{filler.type}" cannot fill a blob of shape {tuple(tensor.shape)} ({error})'
        ) from None
    return tensor


def _constant(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    tensor.fill_(filler.value)


def _uniform(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    tensor.uniform_(filler.min, filler.max, generator=generator)


def _gaussian(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    tensor.normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        # `sparse` counts the non-zero weights that each output should have on average.
        keep = min(filler.sparse / tensor.shape[0], 1.0)
        tensor.mul_(torch.empty_like(tensor).bernoulli_(keep, generator=generator))


def _positive_unitball(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    rows = tensor.uniform_(0, 1, generator=generator).flatten(1)
    tensor.copy_((rows / rows.sum(1, keepdim=True)).view_as(tensor))


def _xavier(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    bound = math.sqrt(3 / fan(tuple(tensor.shape), filler))
    tensor.uniform_(-bound, bound, generator=generator)


def _msra(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    gain = 2 / (1 + filler.alpha**2)
    std = filler.scale * math.sqrt(gain / fan(tuple(tensor.shape), filler))
    tensor.normal_(0, std, generator=generator)


def _bilinear(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    if tensor.dim() != 4 or tensor.shape[2] != tensor.shape[3]:
        raise SphereFaceError(
            f'filler "bilinear" for a blob of shape {tuple(tensor.shape)}',
            expected="4 axes with a square filter",
        )
    width = tensor.shape[3]
    factor = math.ceil(width / 2)
    centre = (width - 1) / (2 * factor)
    ramp = 1 - (torch.arange(width, dtype=tensor.dtype) / factor - centre).abs()
    tensor.copy_(ramp[:, None] * ramp)


def _gaussian_unitball(tensor: Tensor, filler: Any, generator: torch.Generator | None) -> None:
    rows = tensor.normal_(filler.mean, filler.std, generator=generator).flatten(1)
    tensor.copy_((rows / rows.norm(dim=1, keepdim=True)).view_as(tensor))


FILLERS: dict[str, Callable[[Tensor, Any, torch.Generator | None], None]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
    "gaussian_unitball": _gaussian_unitball,
}
