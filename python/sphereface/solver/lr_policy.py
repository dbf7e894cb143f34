"""The learning rate of an iteration: fixed, step, exp, inv, multistep, multifixed, poly, sigmoid.

Source: SGDSolver::GetLearningRate (sgd_solver.cpp); multifixed and ``warmup_iter`` are Intel's,
``rampup_interval`` and ``min_lr`` NVIDIA's. What differs: double precision; poly beyond max_iter,
which is NaN there, is refused. SSD's plateau, which watches the loss, is not computed.
"""

from __future__ import annotations

import math
from typing import Any

from sphereface.errors import SphereFaceError, nearest

__all__ = ["POLICIES", "check_policy", "learning_rate"]

POLICIES = ("exp", "fixed", "inv", "multifixed", "multistep", "poly", "sigmoid", "step")

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
    if policy == "plateau":
        raise SphereFaceError(
            'lr_policy "plateau" of SSD\'s fork, which watches the loss, is not computed',
            where=where,
            expected=", ".join(POLICIES),
            fix="write the steps down: multistep with stepvalue",
        )
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
    if policy == "multifixed" and not 0 < len(param.stagelr) == len(param.stageiter):
        raise SphereFaceError(
            f"{len(param.stagelr)} stagelr and {len(param.stageiter)} stageiter values",
            where=where,
            expected="as many of both, at least one",
        )
    for name in ("warmup_iter", "rampup_interval", "min_lr"):
        if getattr(param, name) < 0:
            raise SphereFaceError(
                f"{name} {getattr(param, name)}", where=where, expected="0 or more"
            )
    if policy == "poly" and param.min_lr > param.base_lr:
        raise SphereFaceError(
            f"min_lr {param.min_lr:g} of base_lr {param.base_lr:g}",
            where=where,
            expected="at most base_lr",
        )
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
    if iteration < param.warmup_iter:
        share = iteration / param.warmup_iter
        return share * param.base_lr + (1 - share) * param.warmup_start_lr, current_step
    if iteration < param.rampup_interval:
        share = (iteration / param.rampup_interval) ** 2
        return param.rampup_lr + (param.base_lr - param.rampup_lr) * share, current_step
    rate, current_step = _policy_rate(param, iteration, current_step)
    return max(rate, param.min_lr), current_step


def _policy_rate(param: Any, iteration: int, current_step: int) -> tuple[float, int]:
    base, gamma, power, policy = param.base_lr, param.gamma, param.power, param.lr_policy
    if policy == "step":
        current_step = iteration // param.stepsize
        return base * gamma**current_step, current_step
    if policy == "multistep":
        values = param.stepvalue
        if current_step < len(values) and iteration >= values[current_step]:
            current_step += 1
        return base * gamma**current_step, current_step
    if policy == "multifixed":
        stages = zip(param.stagelr, param.stageiter, strict=True)
        rates = (rate for rate, last in stages if iteration <= last)
        return next(rates, param.stagelr[-1]), current_step
    factor = _factor(policy, gamma, power, iteration, param)
    least = param.min_lr if policy == "poly" else 0.0
    return (base - least) * factor + least, current_step


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
