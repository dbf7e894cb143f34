"""Minimum hyperspherical energy: a loss that spreads the classes' weights over the sphere.

Source: Liu et al., "Learning towards Minimum Hyperspherical Energy", NeurIPS 2018, the part of
SphereFace+ beside A-Softmax. (Caffe's InterClass is another form of it.) What differs: the mean
over the pairs, as in the paper, in pieces that bound the memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sphereface.errors import SphereFaceError

__all__ = ["HypersphericalEnergy", "hyperspherical_energy"]

_PIECE = 1 << 22  # distances at a time


def hyperspherical_energy(
    weight: Tensor, power: float = 2.0, label: Tensor | None = None
) -> Tensor:
    r"""Return the mean energy of pairs of classes, \|u_i - u_j\|^-power with u = w / \|w\|.

    Parameters
    ----------
    weight : Tensor of shape (N, K)
        One row a class, N at least 2.
    power : float
        s >= 0; 0 stands for the logarithm, -ln \|u_i - u_j\|.
    label : Tensor of shape (M,) of integers, optional
        Take the pairs of the labels' classes with all others (the paper's mini-batch form), each
        label as often as it is there. Without it, all pairs.

    Returns
    -------
    Tensor of shape ()
        Differentiable; nothing larger than 4 million values is kept for the backward.

    Raises
    ------
    SphereFaceError
        There are no pairs, or `power` is negative.
    """
    classes = len(weight)
    if classes < 2 or not power >= 0:
        raise SphereFaceError(
            f"{classes} classes and power {power!r}",
            where="hyperspherical_energy",
            expected="at least 2 classes and a power >= 0",
        )
    unit = F.normalize(weight)
    rows = torch.arange(classes, device=weight.device) if label is None else label.long()
    if not len(rows):
        return unit.sum() * 0
    total = unit.new_zeros((), dtype=torch.promote_types(unit.dtype, torch.float32))
    for piece in rows.split(max(1, _PIECE // classes)):
        total = total + checkpoint(_energy, unit, piece, power, use_reentrant=False)
    return total / (len(rows) * (classes - 1))


def _energy(unit: Tensor, rows: Tensor, power: float) -> Tensor:
    """Return the sum of the energies between `rows` and all others."""
    squared = (2 - 2 * unit[rows] @ unit.T).to(torch.promote_types(unit.dtype, torch.float32))
    own = F.one_hot(rows, len(unit)).bool()
    # Rows that fall together have an infinite energy; epsilon^2 bounds it.
    squared = squared.masked_fill(own, 1).clamp_min(torch.finfo(squared.dtype).eps ** 2)
    energy = -squared.log() / 2 if power == 0 else squared ** (-power / 2)
    return energy.masked_fill(own, 0).sum()


class HypersphericalEnergy(nn.Module):
    """`hyperspherical_energy` of a head's weight, to be added to its loss.

    Parameters
    ----------
    power : float
        s >= 0.

    Examples
    --------
    >>> energy = HypersphericalEnergy()
    >>> round(energy(torch.eye(2)).item(), 4)
    0.5
    """

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, weight: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the mean energy, of shape ().

        Raises
        ------
        SphereFaceError
            See `hyperspherical_energy`.
        """
        return hyperspherical_energy(weight, self.power, label)

    def extra_repr(self) -> str:
        """Return the power, for ``repr``."""
        return f"power={self.power:g}"
