from __future__ import annotations

import re

import numpy as np
import pytest
import torch

NET = """
name: "debug"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "fc1" type: "InnerProduct" bottom: "data" top: "fc1"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "act" type: "PReLU" bottom: "fc1" top: "fc1" }
layer { name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2" param { lr_mult: 0 }
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "fc1" bottom: "fc2" top: "sum" }
layer { name: "loss" type: "EuclideanLoss" bottom: "sum" bottom: "label" top: "loss" }
"""


@pytest.fixture
def told(regression, rows, recording):
    solver = regression(
        'base_lr: 0.1 momentum: 0.5 lr_policy: "fixed" debug_info: true display: 2', net=NET
    )
    before = {key: value.clone() for key, value in solver.net.state_dict().items()}
    batch = rows(1)[0]
    solver.step(1, batch)
    lines = list(recording.messages)
    recording.messages.clear()
    solver.step(1, batch)
    assert recording.messages == []  # iteration 1 is not displayed
    return lines, before, batch


def value(lines, start: str) -> float:
    (line,) = [line for line in lines if line.startswith(f"    {start}: ")]
    return float(line.rpartition(": ")[2])


def test_forward_lines(told):
    lines, before, batch = told
    mean = lambda x: pytest.approx(np.abs(x).mean(), rel=1e-5)  # noqa: E731
    assert value(lines, "[Forward] Layer data, top blob data data") == mean(batch["data"])
    weight = before["fc1.weight"].numpy()
    assert value(lines, "[Forward] Layer fc1, param blob 0 data") == mean(weight)
    fc1 = batch["data"] @ weight.T
    assert value(lines, "[Forward] Layer fc1, top blob fc1 data") == mean(fc1)
    act = np.where(fc1 > 0, fc1, 0.25 * fc1)
    assert value(lines, "[Forward] Layer act, top blob fc1 data") == mean(act)


def test_backward_lines(told):
    lines, before, batch = told
    x = {name: torch.from_numpy(array) for name, array in batch.items()}
    w1 = before["fc1.weight"].requires_grad_()
    fc1 = torch.nn.functional.prelu(x["data"] @ w1.T, before["act.weight"])
    fc1.retain_grad()
    fc2 = fc1 @ before["fc2.weight"].T
    loss = (fc1 + fc2 - x["label"]).square().sum() / 8
    loss.backward()
    mean = lambda t: pytest.approx(t.abs().mean().item(), rel=1e-5)  # noqa: E731
    assert value(lines, "[Backward] Layer fc1, param blob 0 diff") == mean(w1.grad)
    # Of a blob with two readers each tells its own part.
    direct = (fc1 + fc2 - x["label"]).detach() / 4
    assert value(lines, "[Backward] Layer sum, bottom blob fc1 diff") == mean(direct)
    through = direct @ before["fc2.weight"]
    assert value(lines, "[Backward] Layer fc2, bottom blob fc1 diff") == mean(through)
    assert value(lines, "[Backward] Layer act, bottom blob fc1 diff") > 0
    assert not any("Layer fc2, param blob 0 diff" in line for line in lines)
    backward = [line for line in lines if "[Backward] Layer" in line]
    order = [re.search(r"Layer (\w+)", line)[1] for line in backward]
    assert [name for i, name in enumerate(order) if name not in order[:i]] == [
        "loss", "sum", "fc2", "act", "fc1",
    ]  # fmt: skip


def test_norms_and_updates(told):
    lines, before, _ = told
    (line,) = [line for line in lines if "All net params" in line]
    l1, l2 = (tuple(map(float, pair)) for pair in re.findall(r"\(([\d.e-]+), ([\d.e-]+)\)", line))
    parameters = [before[key] for key in before]
    assert l1[0] == pytest.approx(sum(p.abs().sum().item() for p in parameters), rel=1e-5)
    assert l2[0] == pytest.approx(sum(p.square().sum().item() for p in parameters) ** 0.5, rel=1e-5)
    diff = value(lines, "[Backward] Layer fc1, param blob 0 diff")
    (update,) = [line for line in lines if "[Update] Layer fc1, param 0" in line]
    data, step = map(float, re.search(r"data: ([\d.e-]+); diff: ([\d.e-]+)", update).groups())
    assert data == pytest.approx(before["fc1.weight"].abs().mean().item(), rel=1e-5)
    assert step == pytest.approx(0.1 * diff, rel=1e-5)
