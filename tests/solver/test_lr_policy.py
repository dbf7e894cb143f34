from __future__ import annotations

import math

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.solver.lr_policy import POLICIES, check_policy, learning_rate


def solver(fields: str):
    param = text.read(f"base_lr: 0.5 {fields}", "SolverParameter")
    check_policy(param, "solver")
    return param


def rates(param, count: int, begin: int = 0) -> list[float]:
    step, found = 0, []
    for iteration in range(begin, begin + count):
        rate, step = learning_rate(param, iteration, step)
        found.append(rate)
    return found


I = np.arange(12)  # noqa: E741
CURVES = {
    "fixed": ("", 0.5 * np.ones(12)),
    "step": ("gamma: 0.25 stepsize: 3", 0.5 * 0.25 ** np.floor(I / 3)),
    "exp": ("gamma: 0.75", 0.5 * 0.75**I),
    "inv": ("gamma: 0.25 power: 0.75", 0.5 / (1 + 0.25 * I) ** 0.75),
    "multistep": ("gamma: 0.25 stepvalue: 2 stepvalue: 7",
                  0.5 * np.array([1, 1, *[0.25] * 5, *[0.0625] * 5])),
    "multifixed": ("stagelr: [0.1, 0.5, 0.25] stageiter: [2, 6, 9]",
                   np.float32([*[0.1] * 3, *[0.5] * 4, *[0.25] * 5])),
    "poly": ("power: 1.5 max_iter: 16", 0.5 * (1 - I / 16) ** 1.5),
    "sigmoid": ("gamma: -0.5 stepsize: 5", 0.5 / (1 + np.exp(0.5 * (I - 5)))),
}  # fmt: skip


def test_every_policy_has_a_curve():
    assert set(CURVES) == set(POLICIES)


@pytest.mark.parametrize("policy", POLICIES)
def test_curve(policy):
    fields, expected = CURVES[policy]
    np.testing.assert_allclose(
        rates(solver(f'lr_policy: "{policy}" {fields}'), 12), expected, rtol=1e-12
    )


def test_intels_warm_up_is_linear_and_nvidias_a_square():
    steps = 'lr_policy: "multistep" gamma: 0.25 stepvalue: 2 stepvalue: 7'
    found = rates(solver(f"{steps} warmup_iter: 4 warmup_start_lr: 0.125"), 12)
    np.testing.assert_allclose(found[:4], 0.125 + 0.375 * I[:4] / 4, rtol=1e-12)
    # The steps that passed meanwhile are caught up with, one an iteration.
    np.testing.assert_allclose(found[4:], 0.5 * np.array([*[0.25] * 3, *[0.0625] * 5]))
    found = rates(solver('lr_policy: "fixed" rampup_interval: 5 rampup_lr: 0.25'), 12)
    np.testing.assert_allclose(found, 0.25 + 0.25 * np.minimum(I / 5, 1) ** 2, rtol=1e-12)


def test_nvidias_least_rate():
    found = rates(solver('lr_policy: "poly" power: 2 max_iter: 16 min_lr: 0.125'), 12)
    np.testing.assert_allclose(found, 0.375 * (1 - I / 16) ** 2 + 0.125, rtol=1e-12)
    found = rates(solver('lr_policy: "exp" gamma: 0.75 min_lr: 0.125'), 12)
    np.testing.assert_allclose(found, np.maximum(0.5 * 0.75**I, 0.125), rtol=1e-12)


def test_multistep_catches_up_one_step_an_iteration():
    param = solver('lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 4 stepvalue: 50')
    assert rates(param, 4, begin=10) == [0.25, 0.125, 0.125, 0.125]
    assert learning_rate(param, 60, 2) == (0.5 * 0.125, 3)


def test_step_ignores_what_it_was_before():
    assert learning_rate(solver('lr_policy: "step" gamma: 0.5 stepsize: 10'), 25, 0) == (0.125, 2)


def test_sigmoid_far_from_its_step():
    param = solver('lr_policy: "sigmoid" gamma: 10 stepsize: 1000')
    assert learning_rate(param, 0, 0)[0] == 0
    assert learning_rate(param, 2000, 0)[0] == 0.5


def test_poly_ends_at_max_iter():
    param = solver('lr_policy: "poly" power: 0.5 max_iter: 4')
    assert math.isclose(learning_rate(param, 4, 0)[0], 0)
    with pytest.raises(SphereFaceError, match="at most 4"):
        learning_rate(param, 5, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('lr_policy: "multistpe"', 'did you mean "multistep"'),
        ("", "no lr_policy; expected exp, fixed"),
        ('lr_policy: "step" gamma: 0.1', "without stepsize"),
        ('lr_policy: "step" gamma: 0.1 stepsize: 0', "stepsize 0; expected more than 0"),
        ('lr_policy: "plateau" plateau_winsize: 9', "watches the loss.*multistep with stepvalue"),
        ('lr_policy: "multifixed"', "0 stagelr and 0 stageiter values; expected as many"),
        ('lr_policy: "multifixed" stagelr: 1 stagelr: 2 stageiter: 5', "2 stagelr and 1 stageiter"),
        ('lr_policy: "fixed" warmup_iter: -1', "warmup_iter -1; expected 0 or more"),
        ('lr_policy: "poly" power: 1 max_iter: 9 min_lr: 1', "min_lr 1 of base_lr 0.5"),
        ('lr_policy: "inv"', "without gamma and power"),
        ('lr_policy: "poly" power: 1', "without max_iter"),
    ],
)
def test_incomplete_policies_are_refused(fields, message):
    with pytest.raises(SphereFaceError, match=message):
        solver(fields)
