"""Smaller changes of form: net inputs, BatchNorm's multipliers, the solver's type.

Source: Caffe's UpgradeNetInput, UpgradeNetBatchNorm and UpgradeSolverType. `regularization_type`
has always been the string that it is; it needs no upgrade.
"""

from __future__ import annotations

from typing import Any

from sphereface.errors import SphereFaceError

__all__ = [
    "freeze_batch_norm",
    "has_net_inputs",
    "has_old_batch_norm",
    "upgrade_inputs",
    "upgrade_solver_type",
]

_SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


def has_net_inputs(net: Any) -> bool:
    """Tell whether the NetParameter `net` declares inputs of its own."""
    return len(net.input) > 0


def upgrade_inputs(net: Any) -> bool:
    """Turn ``input`` with ``input_shape`` or four ``input_dim`` each into an Input layer.

    The layer is called "input" and comes first. Inputs without any shape are dropped, as Caffe
    does; a layer reading them then says that its bottom is unknown.

    Returns
    -------
    bool
        Whether a layer was added.
    """
    names, shapes = list(net.input), list(net.input_shape)
    per_input, given = (1, len(shapes)) if shapes else (4, len(net.input_dim))
    if given and given != per_input * len(names):
        kind = "input_shape" if shapes else "input_dim"
        raise SphereFaceError(
            f"{len(names)} input and {given} {kind}",
            where=f'net "{net.name}"',
            expected=f"{per_input * len(names)} {kind}",
        )
    if given:
        layers = [type(layer).FromString(layer.SerializePartialToString()) for layer in net.layer]
        del net.layer[:]
        added = net.layer.add(name="input", type="Input", top=names)
        for index in range(len(names)):
            shape = added.input_param.shape.add()
            if shapes:
                shape.CopyFrom(shapes[index])
            else:
                shape.dim.extend(net.input_dim[4 * index : 4 * index + 4])
        net.layer.extend(layers)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
    return bool(given)


def _old_batch_norms(net: Any) -> list[Any]:
    return [
        layer
        for layer in net.layer
        if layer.type == "BatchNorm"
        and len(layer.param) == 3
        and any(param.lr_mult or param.decay_mult for param in layer.param)
    ]


def has_old_batch_norm(net: Any) -> bool:
    """Tell whether a BatchNorm layer gives its three statistics multipliers that are not 0."""
    return bool(_old_batch_norms(net))


def freeze_batch_norm(net: Any) -> None:
    """Set those multipliers to 0; statistics are not learned."""
    for layer in _old_batch_norms(net):
        for param in layer.param:
            param.lr_mult = param.decay_mult = 0


def upgrade_solver_type(solver: Any) -> bool:
    """Replace the enum ``solver_type`` by the string ``type``; return whether it was there.

    Raises
    ------
    SphereFaceError
        Both are given.
    """
    if not solver.HasField("solver_type"):
        return False
    if solver.HasField("type"):
        raise SphereFaceError(
            'the old "solver_type" and "type" are both given', where="solver", fix="keep type"
        )
    solver.type = _SOLVER_TYPES[solver.solver_type]
    solver.ClearField("solver_type")
    return True
