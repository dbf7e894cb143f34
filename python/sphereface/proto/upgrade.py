"""Old forms of nets and solvers to today's, in the order of Caffe's UpgradeNetAsNeeded.

The given message is never changed; what was done is told in words, for logs and the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.crop_offsets import place_crops
from sphereface.proto.upgrade_fields import (
    freeze_batch_norm,
    has_net_inputs,
    has_old_batch_norm,
    upgrade_inputs,
    upgrade_solver_type,
)
from sphereface.proto.upgrade_v0 import is_v0, upgrade_v0
from sphereface.proto.upgrade_v1 import (
    has_old_transform,
    is_v1,
    move_transform,
    old_crops,
    upgrade_v1,
)

__all__ = ["Upgraded", "upgrade_net", "upgrade_solver"]


@dataclass(frozen=True)
class Upgraded:
    """Result of an upgrade.

    Attributes
    ----------
    message : Message
        NetParameter or SolverParameter in today's form.
    changes : tuple of str
        What was changed; empty for a message of today.
    origin : tuple of int
        For each layer of the net, its index in the given net; -1 for an added Input layer.
    """

    message: Any
    changes: tuple[str, ...]
    origin: tuple[int, ...] = ()


def _copy(message: Any) -> Any:
    result = type(message)()
    result.CopyFrom(message)
    return schema.current(result)


def upgrade_net(net: Any, source: str = "") -> Upgraded:
    """Upgrade a NetParameter from text or from a binary net, as Caffe does when it reads one.

    Parameters
    ----------
    net : Message
        The NetParameter; it stays as it is.
    source : str, optional
        Name of its file, for errors.

    Returns
    -------
    Upgraded
        Its net has ``layer`` only, and no ``input``.

    Raises
    ------
    SphereFaceError
        The old form is contradictory; see `upgrade_v0`, `upgrade_v1` and `upgrade_inputs`.
    """
    try:
        return _upgrade_net(_copy(net))
    except SphereFaceError as error:
        raise error.at(source) from None


def _upgrade_net(net: Any) -> Upgraded:
    changes = []
    origin = list(range(len(net.layers) or len(net.layer)))
    if is_v0(net):
        origin, dropped = upgrade_v0(net)
        changes += ["V0 layers to V1 layers", *dropped]
    if has_old_transform(net):
        move_transform(net)
        changes.append("transformation fields of data layers to transform_param")
    if is_v1(net):
        crops = old_crops(net)
        upgrade_v1(net)
        changes.append("V1 layers to layer")
        if crops:
            place_crops(net, crops)
            changes.append("offsets for Crop, which V1's forks aligned by coordinates")
    if has_net_inputs(net):
        if upgrade_inputs(net):
            origin.insert(0, -1)
        changes.append("input fields to an Input layer")
    if has_old_batch_norm(net):
        freeze_batch_norm(net)
        changes.append("multipliers of BatchNorm's statistics to 0")
    return Upgraded(net, tuple(changes), tuple(origin))


def upgrade_solver(solver: Any) -> Upgraded:
    """Upgrade a SolverParameter; nets inside it are upgraded by whoever builds them."""
    solver = _copy(solver)
    changes = ("solver_type to type",) if upgrade_solver_type(solver) else ()
    return Upgraded(solver, changes)
