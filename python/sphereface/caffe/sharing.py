"""Parameters shared by name: `param { name: "w" }` in several layers is one blob.

Source: Caffe's Net::AppendParam (net.cpp). The first layer with a name owns the blob; data are
shared and gradients summed because the others hold the same tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from sphereface.errors import SphereFaceError

__all__ = ["BlobSlot", "SharedBlob", "resolve_sharing"]


@dataclass(frozen=True)
class BlobSlot:
    """A blob of a layer (both as indices), its ParamSpec or None, its shape and its place."""

    layer: int
    blob: int
    spec: Any
    shape: tuple[int, ...]
    where: str


@dataclass
class SharedBlob:
    """One learnable blob: its owner, those who share it, and the multipliers that hold for all."""

    owner: BlobSlot
    sharers: list[BlobSlot]
    lr_mult: float = 1.0
    decay_mult: float = 1.0


def resolve_sharing(slots: Iterable[BlobSlot]) -> list[SharedBlob]:
    """Group blobs by the name of their ParamSpec; blobs without a name stand alone.

    Parameters
    ----------
    slots : iterable of BlobSlot
        All blobs in Caffe's order: layer by layer.

    Returns
    -------
    list of SharedBlob
        Caffe's learnable parameters, in its order.

    Raises
    ------
    SphereFaceError
        Shapes (or counts, with ``share_mode: PERMISSIVE``) or given multipliers differ.
    """
    blobs: list[SharedBlob] = []
    by_name: dict[str, SharedBlob] = {}
    given: dict[tuple[int, str], float] = {}
    for slot in slots:
        name = slot.spec.name if slot.spec is not None else ""
        shared = by_name.get(name) if name else None
        if shared is None:
            shared = SharedBlob(slot, [])
            blobs.append(shared)
            if name:
                by_name[name] = shared
        else:
            _check_shape(shared.owner, slot, name)
            shared.sharers.append(slot)
        for multiplier in ("lr_mult", "decay_mult"):
            _merge(shared, slot, multiplier, given)
    return blobs


def _check_shape(owner: BlobSlot, slot: BlobSlot, name: str) -> None:
    permissive = slot.spec.share_mode == slot.spec.PERMISSIVE
    same = prod(owner.shape) == prod(slot.shape) if permissive else owner.shape == slot.shape
    if not same:
        raise SphereFaceError(
            f'cannot share param "{name}": its shape here is {slot.shape}',
            where=slot.where,
            expected=f"{'the count' if permissive else 'the shape'} of its owner: "
            f"{owner.shape} in {owner.where}",
            fix="" if permissive else "share_mode: PERMISSIVE compares counts only",
        )


def _merge(
    shared: SharedBlob, slot: BlobSlot, multiplier: str, given: dict[tuple[int, str], float]
) -> None:
    if slot.spec is None or not slot.spec.HasField(multiplier):
        return
    value = getattr(slot.spec, multiplier)
    earlier = given.setdefault((id(shared), multiplier), value)
    if earlier != value:
        raise SphereFaceError(
            f'shared param "{slot.spec.name}" has {multiplier} {value:g}',
            where=slot.where,
            expected=f"{earlier:g}, as given where the blob is first named ({shared.owner.where})",
        )
    setattr(shared, multiplier, value)
