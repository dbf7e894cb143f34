"""Parameters shared by name: `param { name: "w" }` in several layers is one blob.

Source: Caffe's Net::AppendParam (net.cpp). The first layer with a name owns the blob; data are
shared and gradients summed because the others hold the same tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from sphereface.errors import SphereFaceError

__all__ = ["BlobSlot", "SharedBlob", "resolve_sharing"]


@dataclass(frozen=True)
class BlobSlot:
    """A blob of a layer (both as indices), its shape, its place, and what its ParamSpec gives.

    A multiplier that the file does not give is None; `permissive` is ``share_mode: PERMISSIVE``.
    """

    layer: int
    blob: int
    shape: tuple[int, ...]
    where: str
    name: str = ""
    permissive: bool = False
    lr_mult: float | None = None
    decay_mult: float | None = None


@dataclass
class SharedBlob:
    """One learnable blob: its owner, those who share it, and the multipliers that hold for all."""

    owner: BlobSlot
    sharers: list[BlobSlot]

    @property
    def lr_mult(self) -> float:
        """The factor on the learning rate, 1 unless given."""
        return self._multiplier("lr_mult")

    @property
    def decay_mult(self) -> float:
        """The factor on the weight decay, 1 unless given."""
        return self._multiplier("decay_mult")

    def _multiplier(self, which: str) -> float:
        given = (getattr(slot, which) for slot in (self.owner, *self.sharers))
        return next((value for value in given if value is not None), 1.0)


def resolve_sharing(slots: Iterable[BlobSlot]) -> list[SharedBlob]:
    """Group blobs by name; blobs without a name stand alone.

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
    for slot in slots:
        shared = by_name.get(slot.name) if slot.name else None
        if shared is not None:
            _check_shape(shared.owner, slot)
            for which in ("lr_mult", "decay_mult"):
                _check_multiplier(shared, slot, which)
            shared.sharers.append(slot)
            continue
        blobs.append(SharedBlob(slot, []))
        by_name[slot.name] = blobs[-1]
    return blobs


def _check_shape(owner: BlobSlot, slot: BlobSlot) -> None:
    same = prod(owner.shape) == prod(slot.shape) if slot.permissive else owner.shape == slot.shape
    if not same:
        raise SphereFaceError(
            f'cannot share param "{slot.name}": its shape here is {slot.shape}',
            where=slot.where,
            expected=f"{'the count' if slot.permissive else 'the shape'} of its owner: "
            f"{owner.shape} in {owner.where}",
            fix="" if slot.permissive else "share_mode: PERMISSIVE compares counts only",
        )


def _check_multiplier(shared: SharedBlob, slot: BlobSlot, which: str) -> None:
    for earlier in (shared.owner, *shared.sharers):
        value, expected = getattr(slot, which), getattr(earlier, which)
        if value is not None and expected is not None and value != expected:
            raise SphereFaceError(
                f'shared param "{slot.name}" has {which} {value:g}',
                where=slot.where,
                expected=f"{expected:g}, as in {earlier.where}",
            )
