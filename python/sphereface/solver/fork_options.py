"""Options of forks' solvers that change the weights and are not computed: refused by name.

Source: the caffe.proto of NVIDIA's, Intel's and Texas Instruments' forks. A solver's file with them
is read and upgraded; training with it is what is refused, for its numbers would be other ones.
"""

from __future__ import annotations

from typing import Any

from sphereface.errors import SphereFaceError

__all__ = ["refuse_fork_options"]

_RATES = "rates of each blob by the norms of its weights and gradients"
_REFUSED = {
    "sparse_mode": "weights that are set to zero during training and stay so",
    "local_lr_auto": _RATES,
    "larc": _RATES,
    "momentum_policy": "a momentum that changes during training",
    "weight_decay_policy": "a weight decay that changes during training",
    "disabled_update": "a training without updates",
}
_PARTS = {"sparse_mode": " and sparsity_*", "larc": ", larc_policy and larc_eta"}


def refuse_fork_options(param: Any, where: str) -> None:
    """Refuse a SolverParameter that asks for one of them.

    Raises
    ------
    SphereFaceError
        The option, what it would do, and what to remove to train without.
    """
    for name, what in _REFUSED.items():
        field = param.DESCRIPTOR.fields_by_name[name]
        value = getattr(param, name)
        if value == field.default_value:
            continue
        shown = field.enum_type.values_by_number[value].name if field.enum_type else value
        raise SphereFaceError(
            f"{name}: {shown} of a fork ({what}) is not computed",
            where=where,
            fix=f"remove {name}{_PARTS.get(name, '')} to train without it",
        )
