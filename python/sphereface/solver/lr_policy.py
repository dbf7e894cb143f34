"""The learning rate of an iteration: fixed, step, exp, inv, multistep, poly, sigmoid.

Source: SGDSolver::GetLearningRate (sgd_solver.cpp). What differs: double precision; poly beyond
max_iter, which is NaN there, is refused.
"""

from __future__ import annotations

import math
from typing import Any

from sphereface.errors import SphereFaceError, nearest

__all__ = ["POLICIES", "check_policy", "learning_rate"]

POLICIES = ("exp", "fixed", "inv", "multistep", "poly", "sigmoid", "step")

_NEEDED = {
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma",),
    "poly": ("power", "max_iter"),
    "sigmoid": ("gamma", "stepsize"),
}


def check_policy(param: Any, where: str) -> None:
    """Refuse a SolverParameter whose policy is unknown or lacks one of its fields."""
    policy = param.lr_policy
    if policy not in POLICIES:
        raise SphereFaceError(
            f'unknown lr_policy "{policy}"' if policy else "no lr_policy",
            where=where,
            expected=", ".join(POLICIES),
            fix=nearest(policy, POLICIES),
        )
    missing = [name for name in _NEEDED.get(policy, ()) if not param.HasField(name)]
    if missing:
        raise SphereFaceError(
            f'lr_policy "{policy}" without {" and ".join(missing)}', where=where, expected="both"
            if len(missing) > 1 else "a value",
        )  # fmt: skip
    if policy == "step" and param.stepsize <= 0:
        raise SphereFaceError(f"stepsize {param.stepsize}", where=where, expected="more than 0")


def learning_rate(param: Any, iteration: int, current_step: int) -> tuple[float, int]:
    """Return the rate of an iteration and the step that the policy is at then.

    Parameters
    ----------
    param : SolverParameter
        Checked by `check_policy`.
    iteration : int
        Updates done before this one.
    current_step : int
        What the call for the iteration before returned; 0 at the start. Multistep advances it by
        one a call at most, so a solver that starts late catches up one step an iteration.

    Raises
    ------
    SphereFaceError
        The poly policy has come to max_iter.
    """
    base, gamma, power, policy = param.base_lr, param.gamma, param.power, param.lr_policy
    if policy == "step":
        current_step = iteration // param.stepsize
        return base * gamma**current_step, current_step
    if policy == "multistep":
        values = param.stepvalue
        if current_step < len(values) and iteration >= values[current_step]:
            current_step += 1
        return base * gamma**current_step, current_step
    return base * _factor(policy, gamma, power, iteration, param), current_step


def _factor(policy: str, gamma: float, power: float, iteration: int, param: Any) -> float:
    if policy == "exp":
        return gamma**iteration
    if policy == "inv":
        return (1 + gamma * iteration) ** -power
    if policy == "poly":
        if iteration > param.max_iter:
            raise SphereFaceError(
                f"iteration {iteration} of the poly policy, whose rate ends at max_iter",
                expected=f"at most {param.max_iter} iterations",
                fix="raise max_iter",
            )
        return (1 - iteration / param.max_iter) ** power
    if policy == "sigmoid":
        exponent = -gamma * (iteration - param.stepsize)
        return 1 / (1 + math.exp(exponent)) if exponent < _LARGEST_EXPONENT else 0.0
    return 1.0


_LARGEST_EXPONENT = 700.0  # of a double
