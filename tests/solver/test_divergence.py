from __future__ import annotations

import math
import re

import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.proto import text
from sphereface.solver import DivergedError, DivergenceMonitor

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "data" bottom: "label" top: "fc6"
        margin_inner_product_param { num_output: 7 type: QUADRUPLE base: 1000 gamma: 0.12 power: 1
                                     lambda_min: 5 iteration: 100 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""


@pytest.fixture
def monitor():
    return DivergenceMonitor(load(NET, phase="TRAIN"), text.read("base_lr: 1", "SolverParameter"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_no_number_ends_the_run_with_advice(monitor, loss):
    monitor.last_snapshot = "s_iter_40.solverstate"
    with pytest.raises(DivergedError) as caught:
        monitor.observe(41, loss, 0.1, 64)
    message = str(caught.value)
    assert message.startswith(f"iteration 41: the loss is {loss:g}")
    for part in (
        "it is 64 (the authors': 512)", "iter_size", "PReLU in place of ReLU (1 layers)",
        'lambda of layer "fc6" is 76.9231 now', "lambda_min (it is 5; begin with 5 to 10)",
        "base 1000, gamma 0.12, power 1", "rate is 0.1", "SINGLE", "deeper or wider",
        "whole numbers from 0 to 6", "last good snapshot is s_iter_40.solverstate",
    ):  # fmt: skip
        assert part in message


def test_advice_counts_with_the_run(monitor):
    monitor.warnings.append("pixels reach the net as 0 .. 255")
    text = monitor.advice(0.1, 32)
    assert "- what was warned of: pixels reach the net as 0 .. 255" in text.splitlines()[1]
    # 0.1 x 32 / 512
    assert "the rate is 0.1; for a batch of 32 the authors' 0.1 at 512 is 0.0063)" in text
    assert "for this run" not in text  # of no length


def test_a_rate_below_the_authors_is_no_advice(monitor):
    assert "(the rate is 0.006), or" in monitor.advice(0.006, 32)


def test_lambda_for_a_run_of_some_length():
    param = text.read("base_lr: 1 max_iter: 300 iter_size: 2", "SolverParameter")
    advice = DivergenceMonitor(load(NET, phase="TRAIN"), param).advice(0.1, 32)
    found = re.search(
        r"for this run of 600 forwards gamma (\S+) comes to lambda_min after (\d+), "
        r"the present one after (\d+)", advice
    )  # fmt: skip
    gamma, steps, present = (float(number) for number in found.groups())
    assert steps == 60
    assert 1000 / (1 + gamma * 60) == pytest.approx(5, rel=5e-3)
    assert present == math.ceil((1000 / 5 - 1) / 0.12)


def test_saturation_is_told_once(monitor):
    assert monitor.observe(1, 8.0, 0.1, 512) == ""
    warning = monitor.observe(2, 87.3365, 0.1, 512)
    assert warning.startswith("Iteration 2: the loss is 87.3365; 87.3365 means")
    assert "bigger batch" not in warning
    assert monitor.observe(3, 87.3365, 0.1, 512) == ""


def test_other_losses_may_be_large():
    net = load(NET.replace("SoftmaxWithLoss", "MultinomialLogisticLoss"), phase="TRAIN")
    monitor = DivergenceMonitor(net, text.read("base_lr: 1", "SolverParameter"))
    assert monitor.observe(1, 1e6, 0.1, 512) == ""


def test_a_run_stops_before_the_weights_are_lost(regression, rows, folder):
    solver = regression('base_lr: 0.1 lr_policy: "fixed" snapshot: 2 snapshot_prefix: "r"')
    batches = rows(4)
    batches[3]["data"][1, 2] = np.nan
    with pytest.raises(DivergedError, match=r"(?s)iteration 3: .* nan.*r_iter_2.solverstate"):
        solver.step(4, batches)
    assert solver.iter == 3
    assert all(np.isfinite(p.detach().numpy()).all() for p in solver.net.parameters())
    assert [p.name for p in folder.glob("*.solverstate")] == ["r_iter_2.solverstate"]


def test_a_run_may_be_let_go_on(regression, rows):
    solver = regression('base_lr: 0.1 lr_policy: "fixed"')
    solver.monitor = None
    batches = rows(4)
    batches[1]["data"][:] = np.nan
    solver.step(4, batches)
    assert solver.iter == 4
